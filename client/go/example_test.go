package rmgrpc_test

import (
	"context"
	"fmt"
	"io"
	"log"

	rmgrpc "github.com/rm-grpc/rm-grpc/client/go"
)

func Example() {
	ctx := context.Background()
	client, err := rmgrpc.NewClient(rmgrpc.Config{Address: "127.0.0.1:50051"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	stream := client.OpenStream(ctx)
	go func() {
		defer stream.Finish()
		for _, answer := range []string{"1+1=2", "1+1=3"} {
			item := rmgrpc.Item{ID: answer, Input: rmgrpc.Conversation{Messages: []rmgrpc.Message{
				{Role: "user", Content: "What is 1+1?"},
				{Role: "assistant", Content: answer},
			}}}
			if _, err := stream.Send(ctx, item); err != nil {
				return // Next tells why
			}
		}
	}()
	for {
		result, err := stream.Next(ctx)
		if err == io.EOF {
			return
		}
		if err != nil {
			log.Fatal(err) // the stream failed as a whole
		}
		if result.Err != nil {
			fmt.Println(result.ID, result.Err)
		} else {
			fmt.Println(result.ID, result.Score.GetScore())
		}
	}
}
