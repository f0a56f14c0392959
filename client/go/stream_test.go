package rmgrpc

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

func mustSend(t *testing.T, stream *Stream, item Item) {
	t.Helper()
	if _, err := stream.Send(timeout(t), item); err != nil {
		t.Fatal(err)
	}
}

func mustNext(t *testing.T, stream *Stream) Result {
	t.Helper()
	result, err := stream.Next(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func expectEnd(t *testing.T, stream *Stream) {
	t.Helper()
	if result, err := stream.Next(timeout(t)); err != io.EOF {
		t.Fatalf("got %v and %v, want io.EOF", result, err)
	}
}

func TestStreamGivesResultsWhileItemsCome(t *testing.T) {
	halfClosed := make(chan error, 1)
	address, _ := listen(t, "", &fakeServer{scoreBatch: func(call rmgrpcpb.RewardService_ScoreBatchServer) error {
		err := scoreLengths(4)(call)
		halfClosed <- err
		return err
	}})
	stream := clientOf(t, Config{Address: address}).OpenStream(context.Background())
	for n := 0; n < 10; n++ {
		mustSend(t, stream, Item{Input: Text(strings.Repeat("x", n+1))})
		result := mustNext(t, stream)
		expect(t, "index", result.Index, n)
		expect(t, "score", result.Score.GetScore(), float32(n+1))
	}
	stream.Finish()
	expectEnd(t, stream)
	expectEnd(t, stream)
	expect(t, "half-closed", <-halfClosed, nil)
	if _, err := stream.Send(timeout(t), Item{Input: Text("x")}); !errors.Is(err, ReasonInvalidRequest) {
		t.Errorf("got %v after Finish", err)
	}
}

func TestStreamWithoutItemsEnds(t *testing.T) {
	stream := clientOf(t, Config{Address: "127.0.0.1:1"}).OpenStream(context.Background())
	stream.Finish()
	expectEnd(t, stream)
}

func TestSendWaitsForRoom(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{scoreBatch: scoreLengths(2)})
	stream := clientOf(t, Config{Address: address}).OpenStream(context.Background())
	mustSend(t, stream, Item{Input: Text("x")})
	mustNext(t, stream) // the window is known now
	mustSend(t, stream, Item{Input: Text("x")})
	mustSend(t, stream, Item{Input: Text("x")})
	short, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := stream.Send(short, Item{Input: Text("x")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want no room", err)
	}
	mustNext(t, stream)
	mustSend(t, stream, Item{Input: Text("x")})
}

func TestSubmissionOrderOfAStream(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{scoreBatch: func(call rmgrpcpb.RewardService_ScoreBatchServer) error {
		_, _ = call.Recv()
		_ = call.Send(opened(nil, 0))
		for seen := 0; seen < 3; {
			request, err := call.Recv()
			if err != nil {
				return err
			}
			seen += len(request.GetItems().GetItems())
		}
		for _, id := range []string{"2", "0", "1"} {
			_ = call.Send(scored(id, 1))
		}
		_, err := call.Recv()
		if err == io.EOF {
			return nil
		}
		return err
	}})
	stream := clientOf(t, Config{Address: address, Ordering: Submission}).OpenStream(context.Background())
	for n := 0; n < 3; n++ {
		mustSend(t, stream, Item{Input: Text("x")})
	}
	stream.Finish()
	for n := 0; n < 3; n++ {
		expect(t, "index", mustNext(t, stream).Index, n)
	}
	expectEnd(t, stream)
}

func TestLostConnectionIsMadeAgain(t *testing.T) {
	calls := 0
	address, _ := listen(t, "", &fakeServer{scoreBatch: func(call rmgrpcpb.RewardService_ScoreBatchServer) error {
		calls++
		if calls == 3 {
			return scoreLengths(8)(call)
		}
		_, _ = call.Recv()
		_ = call.Send(opened(nil, 0))
		request, _ := call.Recv()
		_ = call.Send(scored(request.GetItems().GetItems()[0].GetId(), 7))
		if calls == 1 {
			return nil
		}
		return status.Error(codes.Unavailable, "gone")
	}})
	items := make([]Item, 5)
	for at := range items {
		items[at].Input = Text("x")
	}
	results, err := clientOf(t, Config{Address: address}).Score(timeout(t), items)
	if err != nil {
		t.Fatal(err)
	}
	for at, result := range results {
		expect(t, "index", result.Index, at)
		expect(t, "error", result.Err, nil)
	}
	expect(t, "calls", calls, 3)
}

func TestServerThatComesLater(t *testing.T) {
	address, stop := listen(t, "", &fakeServer{})
	stop()
	stream := clientOf(t, Config{Address: address}).OpenStream(context.Background())
	mustSend(t, stream, Item{Input: Text("x")})
	time.Sleep(300 * time.Millisecond)
	listen(t, address, &fakeServer{scoreBatch: scoreLengths(8)})
	expect(t, "score", mustNext(t, stream).Score.GetScore(), float32(1))
}

func TestNoServer(t *testing.T) {
	stream := clientOf(t, Config{Address: "127.0.0.1:1", Reconnect: 50 * time.Millisecond}).OpenStream(context.Background())
	mustSend(t, stream, Item{Input: Text("x")})
	_, err := stream.Next(timeout(t))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestSilentServer(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{scoreBatch: func(call rmgrpcpb.RewardService_ScoreBatchServer) error {
		<-call.Context().Done()
		return nil
	}})
	stream := clientOf(t, Config{Address: address}).OpenStream(context.Background())
	mustSend(t, stream, Item{Input: Text("x"), Timeout: time.Millisecond})
	stream.Finish()
	if err := mustNext(t, stream).Err; !errors.Is(err, ReasonDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	expectEnd(t, stream)
}

func TestCancelOfAnUnsentItem(t *testing.T) {
	stream := clientOf(t, Config{Address: "127.0.0.1:1"}).OpenStream(context.Background())
	mustSend(t, stream, Item{ID: "a", Input: Text("x")})
	stream.Cancel(0)
	result := mustNext(t, stream)
	expect(t, "id", result.ID, "a")
	if !errors.Is(result.Err, ReasonCancelled) {
		t.Errorf("got %v", result.Err)
	}
	stream.Finish()
	expectEnd(t, stream)
}

func TestStreamFailsAsAWhole(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{scoreBatch: func(rmgrpcpb.RewardService_ScoreBatchServer) error {
		st, _ := status.New(codes.NotFound, "no such model").WithDetails(
			&errdetails.ErrorInfo{Domain: "rm_grpc", Reason: "MODEL_NOT_FOUND"},
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "model"}}},
		)
		return st.Err()
	}})
	stream := clientOf(t, Config{Address: address}).OpenStream(context.Background())
	mustSend(t, stream, Item{Input: Text("x")})
	for n := 0; n < 3; n++ {
		_, err := stream.Next(timeout(t))
		var typed *Error
		if !errors.As(err, &typed) || typed.Code != codes.NotFound || typed.Field != "model" || !errors.Is(err, ReasonModelNotFound) {
			t.Fatalf("got %v", err)
		}
	}
	if _, err := stream.Send(timeout(t), Item{Input: Text("x")}); !errors.Is(err, ReasonModelNotFound) {
		t.Errorf("got %v of Send", err)
	}
}

func TestContextEndsTheStream(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{scoreBatch: func(call rmgrpcpb.RewardService_ScoreBatchServer) error {
		_, _ = call.Recv()
		_ = call.Send(opened(nil, 0))
		<-call.Context().Done()
		return nil
	}})
	client := clientOf(t, Config{Address: address})
	if _, err := client.ListModels(timeout(t)); err == nil { // it connects, so that its goroutines count as before
		t.Fatal("the fake server has no models")
	}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(context.Background())
	stream := client.OpenStream(ctx)
	mustSend(t, stream, Item{Input: Text("x")})
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := stream.Next(timeout(t)); !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	expectNoMoreGoroutines(t, before)
}

func TestContextOfNextEndsOnlyNext(t *testing.T) {
	address, _ := listen(t, "", &fakeServer{scoreBatch: scoreLengths(4)})
	stream := clientOf(t, Config{Address: address}).OpenStream(context.Background())
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := stream.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	mustSend(t, stream, Item{Input: Text("x")})
	mustNext(t, stream)
}

func TestCloseEndsStreams(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, address := range []string{"127.0.0.1:1", "192.0.2.1:1"} {
		client, err := NewClient(Config{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		stream := client.OpenStream(context.Background())
		mustSend(t, stream, Item{Input: Text("x")})
		given := client.OpenStream(context.Background())
		given.Close()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		for _, one := range []*Stream{stream, client.OpenStream(context.Background())} {
			if _, err := one.Next(timeout(t)); !errors.Is(err, ReasonCancelled) {
				t.Errorf("got %v", err)
			}
			one.Close()
		}
	}
	expectNoMoreGoroutines(t, before)
}
