package rmgrpc

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

// fakeServer answers calls as a test says.
type fakeServer struct {
	rmgrpcpb.UnimplementedRewardServiceServer
	scoreBatch func(rmgrpcpb.RewardService_ScoreBatchServer) error
	tokenize   func(context.Context, *rmgrpcpb.TokenizeRequest) (*rmgrpcpb.TokenizeResponse, error)
	getModel   func(context.Context, *rmgrpcpb.GetModelRequest) (*rmgrpcpb.GetModelResponse, error)
}

func (f *fakeServer) ScoreBatch(call rmgrpcpb.RewardService_ScoreBatchServer) error {
	return f.scoreBatch(call)
}

func (f *fakeServer) Tokenize(
	ctx context.Context, request *rmgrpcpb.TokenizeRequest,
) (*rmgrpcpb.TokenizeResponse, error) {
	return f.tokenize(ctx, request)
}

func (f *fakeServer) GetModel(
	ctx context.Context, request *rmgrpcpb.GetModelRequest,
) (*rmgrpcpb.GetModelResponse, error) {
	return f.getModel(ctx, request)
}

// listen serves on address, or where that is empty on a free port, until the returned function is called.
func listen(t *testing.T, address string, fake *fakeServer) (string, func()) {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	network := "tcp"
	if strings.HasPrefix(address, "unix:") {
		network = "unix"
	}
	listener, err := net.Listen(network, strings.TrimPrefix(address, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	rmgrpcpb.RegisterRewardServiceServer(server, fake)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), server.Stop
}

// scoreLengths opens the stream and scores each item of text with its length, until half-close.
func scoreLengths(window int32) func(rmgrpcpb.RewardService_ScoreBatchServer) error {
	return func(call rmgrpcpb.RewardService_ScoreBatchServer) error {
		if _, err := call.Recv(); err != nil {
			return err
		}
		if err := call.Send(opened(&rmgrpcpb.Window{Items: window}, 0)); err != nil {
			return err
		}
		for {
			request, err := call.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			for _, item := range request.GetItems().GetItems() {
				if err := call.Send(scored(item.GetId(), float32(len(item.GetText())))); err != nil {
					return err
				}
			}
		}
	}
}

func clientOf(t *testing.T, config Config) *Client {
	t.Helper()
	client, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// timeout bounds what a test waits for.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// expectNoMoreGoroutines waits until there are no more than before.
func expectNoMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	var now int
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if now = runtime.NumGoroutine(); now <= before {
			return
		}
	}
	stacks := make([]byte, 1<<16)
	t.Errorf("%d goroutines, %d before:\n%s", now, before, stacks[:runtime.Stack(stacks, true)])
}
