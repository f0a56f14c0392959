"""`text`: the speed of turning text into token ids, beside other tokenizer libraries in environments of their own."""
