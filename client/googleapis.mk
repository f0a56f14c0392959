# google/rpc/*.proto, which the contract imports: in a folder of your own, or where the root's Makefile puts them.

$(GOOGLEAPIS)/google/rpc/error_details.proto:
	@$(MAKE) --no-print-directory -C ../.. build/googleapis
