package rmgrpc

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

func TestTokenIsSentWithEveryCall(t *testing.T) {
	seen := make(chan []string, 2)
	authorization := func(ctx context.Context) error {
		values, _ := metadata.FromIncomingContext(ctx)
		seen <- values.Get("authorization")
		return status.Error(codes.Unauthenticated, "no")
	}
	address, _ := listen(t, "", &fakeServer{
		scoreBatch: func(call rmgrpcpb.RewardService_ScoreBatchServer) error { return authorization(call.Context()) },
		getModel: func(ctx context.Context, _ *rmgrpcpb.GetModelRequest) (*rmgrpcpb.GetModelResponse, error) {
			return nil, authorization(ctx)
		},
	})
	client := clientOf(t, Config{Address: address, Token: "secret"})
	if _, err := client.GetModel(timeout(t), ""); !errors.Is(err, ReasonUnauthenticated) {
		t.Errorf("got %v", err)
	}
	if _, err := client.Score(timeout(t), []Item{{Input: Text("x")}}); !errors.Is(err, ReasonUnauthenticated) {
		t.Errorf("got %v", err)
	}
	for n := 0; n < 2; n++ {
		expect(t, "authorization", <-seen, []string{"Bearer secret"})
	}
}

func TestGetModelAsksForTheClients(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{
		getModel: func(_ context.Context, request *rmgrpcpb.GetModelRequest) (*rmgrpcpb.GetModelResponse, error) {
			return &rmgrpcpb.GetModelResponse{Model: &rmgrpcpb.ModelInfo{Name: request.GetName()}}, nil
		},
	})
	client := clientOf(t, Config{Address: address, Model: "m"})
	for given, asked := range map[string]string{"": "m", "n": "n"} {
		model, err := client.GetModel(timeout(t), given)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "name", model.GetName(), asked)
	}
}

func TestTokenize(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{
		tokenize: func(_ context.Context, request *rmgrpcpb.TokenizeRequest) (*rmgrpcpb.TokenizeResponse, error) {
			response := &rmgrpcpb.TokenizeResponse{}
			for _, item := range request.GetItems() {
				response.Results = append(response.Results, &rmgrpcpb.TokenizeResult{
					Id:           item.GetId(),
					Tokenization: &rmgrpcpb.Tokenization{RenderedText: item.GetText()},
					Error:        status.New(codes.InvalidArgument, "too short").Proto(),
				})
			}
			return response, nil
		},
	})
	client := clientOf(t, Config{Address: address})
	results, err := client.Tokenize(timeout(t), []Item{{Input: Text("x")}, {ID: "b", Input: Text("y")}})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "ids", []string{results[0].ID, results[1].ID}, []string{"0", "b"})
	expect(t, "text", results[1].Tokenization.GetRenderedText(), "y")
	if !errors.Is(results[0].Err, ReasonInvalidRequest) {
		t.Errorf("got %v", results[0].Err)
	}
	var typed *Error
	if _, err := client.Tokenize(timeout(t), []Item{{Input: Text("x")}, {}}); !errors.As(err, &typed) || typed.Field != "items[1].input" {
		t.Errorf("got %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "socket")
	listen(t, address, &fakeServer{scoreBatch: scoreLengths(4)})
	results, err := clientOf(t, Config{Address: address, Token: "secret"}).Score(timeout(t), []Item{{Input: Text("four")}})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "score", results[0].Score.GetScore(), float32(4))
}

func TestCallsHaveTheClientsTimeout(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{
		getModel: func(ctx context.Context, _ *rmgrpcpb.GetModelRequest) (*rmgrpcpb.GetModelResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		},
	})
	client := clientOf(t, Config{Address: address, Timeout: 50 * time.Millisecond})
	if _, err := client.GetModel(context.Background(), ""); !errors.Is(err, ReasonDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
