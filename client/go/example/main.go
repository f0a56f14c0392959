// Command score-jsonl scores JSON lines from standard input as they come, and writes a line for each result as it is ready.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	rmgrpc "github.com/rm-grpc/rm-grpc/client/go"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, input io.Reader, output, complaints io.Writer) int {
	config, err := configOf(args, os.Getenv, complaints)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(complaints, "score-jsonl: %v\n", err)
		return 2
	}
	client, err := rmgrpc.NewClient(config)
	if err != nil {
		fmt.Fprintf(complaints, "score-jsonl: %v\n", err)
		return 2
	}
	defer client.Close()

	ctx := context.Background()
	stream := client.OpenStream(ctx)
	ledger := newLedger()
	reading := make(chan error, 1)
	go func() {
		reading <- feed(ctx, stream, ledger, input)
		stream.Finish()
	}()

	lines := newWriter(output)
	for {
		result, err := stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			err = <-reading
			if err == nil {
				return 0
			}
			fmt.Fprintf(complaints, "score-jsonl: standard input cannot be read: %v\n", err)
			return 1
		}
		if err != nil {
			lines.streamError(err)
			return 1
		}
		ledger.settled(result.ID, result.Index)
		if err := lines.result(result); err != nil {
			fmt.Fprintf(complaints, "score-jsonl: %v\n", err)
			return 1
		}
	}
}

// feed sends the lines of the input until it ends, or the stream does.
func feed(ctx context.Context, stream *rmgrpc.Stream, ledger *ledger, input io.Reader) error {
	lines := bufio.NewReaderSize(input, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			item, cancel := parse(line)
			if cancel != nil {
				for _, index := range ledger.open(*cancel) {
					stream.Cancel(index)
				}
			} else {
				ledger.sent(item.ID)
				if _, err := stream.Send(ctx, item); err != nil {
					return nil // the stream has failed, and its reader tells why
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
