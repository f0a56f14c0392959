package rmgrpc

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

// start is when every test's clock begins.
var start = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time { return start.Add(time.Duration(seconds * 1e9)) }

// sessionWith gives a session whose items have 100 s, are tried 3 times, and wait 60 s for a server.
func sessionWith(window *rmgrpcpb.Window) *session {
	s := newSession(&rmgrpcpb.OpenStream{Model: "m"}, 100*time.Second, 60*time.Second, 3)
	connect(s, window)
	return s
}

func connect(s *session, window *rmgrpcpb.Window) {
	s.receive(opened(window, 0), start)
}

func opened(window *rmgrpcpb.Window, maxMessageBytes int64) *rmgrpcpb.ScoreBatchResponse {
	return &rmgrpcpb.ScoreBatchResponse{Message: &rmgrpcpb.ScoreBatchResponse_Opened{Opened: &rmgrpcpb.StreamOpened{
		Model:  &rmgrpcpb.ModelInfo{Limits: &rmgrpcpb.Limits{MaxMessageBytes: maxMessageBytes}},
		Window: window,
	}}}
}

func draining() *rmgrpcpb.ScoreBatchResponse {
	return &rmgrpcpb.ScoreBatchResponse{Message: &rmgrpcpb.ScoreBatchResponse_Draining{Draining: &rmgrpcpb.Draining{}}}
}

func scored(id string, score float32) *rmgrpcpb.ScoreBatchResponse {
	return answer(&rmgrpcpb.ItemResult{Id: id, Outcome: &rmgrpcpb.ItemResult_Score{Score: &rmgrpcpb.Score{Score: score}}})
}

func failed(t *testing.T, id string, code codes.Code, reason Reason, delay time.Duration) *rmgrpcpb.ScoreBatchResponse {
	t.Helper()
	st, err := status.New(code, "no").WithDetails(
		&errdetails.ErrorInfo{Domain: "rm_grpc", Reason: string(reason)},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)},
	)
	if err != nil {
		t.Fatal(err)
	}
	return answer(&rmgrpcpb.ItemResult{Id: id, Outcome: &rmgrpcpb.ItemResult_Error{Error: st.Proto()}})
}

func answer(results ...*rmgrpcpb.ItemResult) *rmgrpcpb.ScoreBatchResponse {
	return &rmgrpcpb.ScoreBatchResponse{Message: &rmgrpcpb.ScoreBatchResponse_Results{
		Results: &rmgrpcpb.Results{Results: results},
	}}
}

func take(s *session, count int) {
	for n := 0; n < count; n++ {
		s.take(Item{Input: Text("x")}, start)
	}
}

// sent gives the ids of the items of each message that may be sent now.
func sent(s *session, now time.Time) [][]string {
	var messages [][]string
	for message := s.next(now); message != nil; message = s.next(now) {
		var ids []string
		for _, item := range message.GetItems().GetItems() {
			ids = append(ids, item.GetId())
		}
		messages = append(messages, ids)
	}
	return messages
}

// settled describes what was settled since the last call: "0 score 1.5" or "0 CANCELLED".
func settled(s *session) []string {
	var told []string
	for _, result := range s.takeSettled() {
		if result.Err != nil {
			told = append(told, fmt.Sprintf("%d %s", result.Index, result.Err.(*Error).Reason))
		} else {
			told = append(told, fmt.Sprintf("%d score %v", result.Index, result.Score.GetScore()))
		}
	}
	return told
}

func expect(t *testing.T, what string, got, want interface{}) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

var none [][]string

func TestNothingIsSentBeforeOpened(t *testing.T) {
	s := newSession(&rmgrpcpb.OpenStream{Model: "m"}, time.Second, time.Second, 3)
	take(s, 1)
	expect(t, "before", sent(s, start), none)
	expect(t, "opening", s.open().GetOpen().GetModel(), "m")
	connect(s, &rmgrpcpb.Window{Items: 4})
	expect(t, "after", sent(s, start), [][]string{{"0"}})
}

func TestIDsOnTheWireArePositions(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 4})
	for _, id := range []string{"same", "same", ""} {
		s.take(Item{ID: id, Input: Text("x")}, start)
	}
	expect(t, "wire", sent(s, start), [][]string{{"0", "1", "2"}})
	for _, id := range []string{"2", "1", "0"} {
		s.receive(scored(id, 1), start)
	}
	var ids []string
	for _, result := range s.takeSettled() {
		ids = append(ids, fmt.Sprintf("%s at %d", result.ID, result.Index))
	}
	expect(t, "results", ids, []string{"2 at 2", "same at 1", "same at 0"})
}

func TestWindowInItems(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 2})
	take(s, 4)
	expect(t, "first", sent(s, start), [][]string{{"0", "1"}})
	s.receive(scored("0", 1), start)
	expect(t, "next", sent(s, start), [][]string{{"2"}})
	s.receive(&rmgrpcpb.ScoreBatchResponse{Message: &rmgrpcpb.ScoreBatchResponse_Window{
		Window: &rmgrpcpb.Window{Items: 3},
	}}, start)
	expect(t, "wider", sent(s, start), [][]string{{"3"}})
}

func TestWindowInBytes(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 10, Bytes: 2500})
	for _, size := range []int{1000, 1000, 1000, 5000, 10} {
		s.take(Item{Input: Text(strings.Repeat("x", size))}, start)
	}
	expect(t, "two fit", sent(s, start), [][]string{{"0", "1"}})
	s.receive(scored("0", 1), start)
	expect(t, "the third", sent(s, start), [][]string{{"2"}})
	s.receive(scored("1", 1), start)
	expect(t, "the large one waits", sent(s, start), none)
	s.receive(scored("2", 1), start)
	expect(t, "the large one goes alone", sent(s, start), [][]string{{"3"}})
	s.receive(scored("3", 1), start)
	expect(t, "the last", sent(s, start), [][]string{{"4"}})
}

func TestWindowCountsTheBytesThatAreSent(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 10})
	s.take(Item{Input: Text("x")}, start)
	message := s.next(after(0.123456789))
	expect(t, "bytes", s.inFlightBytes, proto.Size(message.GetItems().GetItems()[0]))
}

func TestMessagesAreBounded(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 100})
	take(s, 40)
	for n := 0; n < 3; n++ {
		s.take(Item{Input: Text(strings.Repeat("x", 400_000))}, start)
	}
	var lengths []int
	for _, ids := range sent(s, start) {
		lengths = append(lengths, len(ids))
	}
	expect(t, "items of each message", lengths, []int{32, 10, 1})
}

func TestItemTooLargeForAMessage(t *testing.T) {
	s := newSession(nil, time.Minute, time.Minute, 3)
	s.receive(opened(nil, 10_000), start)
	s.take(Item{Input: Text(strings.Repeat("x", 9_000))}, start)
	s.take(Item{Input: Text("x")}, start)
	expect(t, "wire", sent(s, start), [][]string{{"1"}})
	expect(t, "settled", settled(s), []string{"0 MESSAGE_TOO_LARGE"})
}

func TestOwnLimitOfMessagesHolds(t *testing.T) {
	s := newSession(nil, time.Minute, time.Minute, 3)
	s.receive(opened(nil, 1<<30), start)
	expect(t, "limit", s.maxMessage, int64(maxMessageBytes))
}

func TestRoomCountsUnreadResults(t *testing.T) {
	s := newSession(nil, time.Minute, time.Minute, 3)
	take(s, 200)
	expect(t, "256 before the window is known", s.hasRoom(55), true)
	expect(t, "no more", s.hasRoom(56), false)
	connect(s, &rmgrpcpb.Window{Items: 201})
	expect(t, "window", s.hasRoom(0), true)
	expect(t, "window and unread", s.hasRoom(1), false)
}

func TestItemThatCannotBeSent(t *testing.T) {
	refusal := invalid("here", "no")
	for name, one := range map[string]struct {
		item   Item
		reason Reason
		field  string
	}{
		"nothing":           {Item{}, ReasonNoInput, "input"},
		"text":              {Item{Input: Text("\xff")}, ReasonInvalidRequest, "text"},
		"group":             {Item{Input: Text("x"), Group: "\xff"}, ReasonInvalidRequest, "group"},
		"timeout":           {Item{Input: Text("x"), Timeout: -1}, ReasonInvalidRequest, "timeout"},
		"metadata":          {Item{Input: Text("x"), Metadata: map[string]interface{}{"a": t}}, ReasonInvalidRequest, "metadata"},
		"refused":           {Item{Input: Refused{refusal}}, ReasonInvalidRequest, "here"},
		"refused, unsaid":   {Item{Input: Refused{}}, ReasonInvalidRequest, "input"},
		"content":           {chat(Message{}, Message{Role: "user", Content: "\xff"}), ReasonInvalidRequest, "conversation.messages[1].content[0]"},
		"content and parts": {chat(Message{Content: "a", Parts: []string{"b"}}), ReasonInvalidRequest, "conversation.messages[0].content"},
		"tool call":         {chat(Message{ToolCalls: []ToolCall{{Name: "\xff"}}}), ReasonInvalidRequest, "conversation.messages[0].tool_calls[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sessionWith(&rmgrpcpb.Window{Items: 4})
			s.take(one.item, start)
			results := s.takeSettled()
			if len(results) != 1 {
				t.Fatalf("got %d results", len(results))
			}
			var err *Error
			if !errors.As(results[0].Err, &err) || err.Reason != one.reason || err.Field != one.field {
				t.Errorf("got %v", results[0].Err)
			}
			expect(t, "owes nothing", s.owesNothing(), true)
		})
	}
}

func chat(messages ...Message) Item { return Item{Input: Conversation{Messages: messages}} }

func TestEverySendingCarriesWhatIsLeftOfTheTimeout(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 4})
	s.take(Item{Input: Text("x"), Timeout: 10 * time.Second}, start)
	message := s.next(after(4))
	expect(t, "left", message.GetItems().GetItems()[0].GetTimeout().AsDuration(), 6*time.Second)
	s.disconnected()
	connect(s, nil)
	message = s.next(after(12))
	expect(t, "none left", message.GetItems().GetItems()[0].GetTimeout().AsDuration(), time.Duration(0))
}

func TestDeadline(t *testing.T) {
	for _, connected := range []bool{true, false} {
		s := newSession(nil, 100*time.Second, time.Minute, 3)
		s.take(Item{Input: Text("x"), Timeout: 10 * time.Second}, start)
		s.take(Item{Input: Text("x")}, start)
		if connected {
			connect(s, nil)
			sent(s, start)
		}
		expect(t, "wakes", s.wake, after(15))
		s.advance(after(14.9))
		expect(t, "grace", settled(s), []string(nil))
		s.advance(after(15))
		expect(t, "late", settled(s), []string{"0 DEADLINE_EXCEEDED"})
		s.receive(scored("0", 1), after(16))
		expect(t, "too late", settled(s), []string(nil))
		expect(t, "wakes for the other", s.wake, after(105))
	}
}

func TestOverloadIsTriedAgainLaterEachTime(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 4})
	take(s, 1)
	sent(s, start)
	s.receive(failed(t, "0", codes.ResourceExhausted, ReasonOverloaded, time.Second), start)
	expect(t, "not yet", sent(s, after(0.9)), none)
	expect(t, "after one delay", sent(s, after(1)), [][]string{{"0"}})
	s.receive(failed(t, "0", codes.ResourceExhausted, ReasonOverloaded, time.Second), after(1))
	expect(t, "not yet again", sent(s, after(2.9)), none)
	expect(t, "after two delays", sent(s, after(3)), [][]string{{"0"}})
	s.receive(failed(t, "0", codes.ResourceExhausted, ReasonOverloaded, time.Second), after(3))
	expect(t, "given up", settled(s), []string{"0 OVERLOADED"})
}

func TestUnknownReasonCountsAsItsCode(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 4})
	take(s, 1)
	for n := 0; n < 10; n++ {
		expect(t, "sent", sent(s, after(float64(n))), [][]string{{"0"}})
		s.receive(failed(t, "0", codes.Unavailable, "LATER", time.Second), after(float64(n)))
	}
	expect(t, "settled", settled(s), []string(nil))
}

func TestUnavailableIsTriedForAsLongAsReconnect(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 4})
	s.timeout = time.Hour
	take(s, 1)
	down := func(at float64) {
		t.Helper()
		expect(t, "sent", sent(s, after(at)), [][]string{{"0"}})
		s.receive(failed(t, "0", codes.Unavailable, ReasonUnavailable, 10*time.Second), after(at))
	}
	for _, at := range []float64{0, 10, 20, 30, 40, 50} {
		down(at)
	}
	down(66) // more than 5 s after the delay of the last: a new outage
	for _, at := range []float64{76, 86, 96, 106, 116} {
		down(at)
	}
	expect(t, "still tried", settled(s), []string(nil))
	down(126)
	expect(t, "given up", settled(s), []string{"0 UNAVAILABLE"})
}

func TestRetryPastTheDeadlineIsNone(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 4})
	s.take(Item{Input: Text("x"), Timeout: 5 * time.Second}, start)
	sent(s, start)
	s.receive(failed(t, "0", codes.ResourceExhausted, ReasonOverloaded, 5*time.Second), start)
	expect(t, "settled", settled(s), []string{"0 OVERLOADED"})
}

func TestErrorWithoutDelayIsTheResult(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 4})
	take(s, 2)
	sent(s, start)
	s.receive(answer(
		&rmgrpcpb.ItemResult{Id: "0", Outcome: &rmgrpcpb.ItemResult_Error{
			Error: status.New(codes.Unavailable, "gone").Proto(),
		}},
		&rmgrpcpb.ItemResult{Id: "1"},
	), start)
	expect(t, "settled", settled(s), []string{"0 UNAVAILABLE", "1 INTERNAL"})
}

func TestDraining(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 2})
	take(s, 3)
	expect(t, "sent", sent(s, start), [][]string{{"0", "1"}})
	s.receive(draining(), start)
	s.receive(scored("0", 1), start)
	s.receive(failed(t, "1", codes.Unavailable, ReasonDraining, 0), start)
	expect(t, "nothing more", sent(s, after(10)), none)
	expect(t, "settled", settled(s), []string{"0 score 1"})
	s.disconnected()
	connect(s, nil)
	expect(t, "the next takes what is left", sent(s, after(10)), [][]string{{"2", "1"}})
}

func TestItemRefusedByADrainingServerStopsTheSending(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 1})
	take(s, 2)
	sent(s, start)
	s.receive(failed(t, "0", codes.Unavailable, ReasonDraining, 0), start)
	expect(t, "nothing more", sent(s, start), none)
}

func TestLossSendsAgain(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 3})
	take(s, 5)
	sent(s, start)
	s.receive(scored("1", 1), start)
	s.disconnected()
	expect(t, "not before opened", sent(s, start), none)
	connect(s, &rmgrpcpb.Window{Items: 10})
	expect(t, "in order", sent(s, start), [][]string{{"0", "2", "3", "4"}})
	s.receive(scored("1", 9), start)
	expect(t, "answered before", settled(s), []string{"1 score 1"})
}

func TestLostTooOften(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 1})
	take(s, 2)
	for loss := 1; loss <= 3; loss++ {
		expect(t, "sent", sent(s, start), [][]string{{"0"}})
		s.disconnected()
		connect(s, &rmgrpcpb.Window{Items: 1})
	}
	expect(t, "settled", settled(s), []string{"0 UNAVAILABLE"})
	expect(t, "the other goes on", sent(s, start), [][]string{{"1"}})
}

func TestWithdraw(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 2})
	take(s, 3)
	sent(s, start)
	s.withdraw(2)
	expect(t, "no server has it", settled(s), []string{"2 CANCELLED"})
	s.withdraw(0)
	s.withdraw(0)
	s.withdraw(7)
	expect(t, "the server has it", settled(s), []string(nil))
	expect(t, "cancel", s.next(start).GetCancel().GetIds(), []string{"0"})
	expect(t, "once", sent(s, start), none)
	s.receive(failed(t, "0", codes.Canceled, ReasonCancelled, time.Second), start)
	s.receive(scored("1", 1), start)
	expect(t, "settled", settled(s), []string{"0 CANCELLED", "1 score 1"})
}

func TestWithdrawnWhileItWaitsToBeTriedAgain(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 2})
	take(s, 1)
	sent(s, start)
	s.receive(failed(t, "0", codes.ResourceExhausted, ReasonOverloaded, time.Second), start)
	s.withdraw(0)
	expect(t, "settled", settled(s), []string{"0 CANCELLED"})
	expect(t, "never again", sent(s, after(2)), none)
}

func TestWithdrawnIsNotSentAgainAfterALoss(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 2})
	take(s, 1)
	sent(s, start)
	s.withdraw(0)
	s.disconnected()
	expect(t, "settled", settled(s), []string{"0 CANCELLED"})
	connect(s, nil)
	expect(t, "no cancel to the next", s.next(start) == nil, true)
}

func TestUnknownMessagesAreSkipped(t *testing.T) {
	s := sessionWith(&rmgrpcpb.Window{Items: 2})
	take(s, 1)
	sent(s, start)
	s.receive(&rmgrpcpb.ScoreBatchResponse{}, start)
	s.receive(scored("no number", math.MaxFloat32), start)
	s.receive(scored("00", 1), start)
	expect(t, "settled", settled(s), []string(nil))
	expect(t, "owed", s.owesNothing(), false)
}

func TestFinished(t *testing.T) {
	s := sessionWith(nil)
	take(s, 1)
	sent(s, start)
	s.sourceEnded = true
	expect(t, "owed", s.isFinished(), false)
	s.receive(scored("0", 1), start)
	expect(t, "given", s.isFinished(), true)
}

func TestSubmissionOrder(t *testing.T) {
	order := newSubmissionOrder()
	var indices []int
	for _, index := range []int{2, 0, 3, 1} {
		for _, result := range order.take([]Result{{Index: index}}) {
			indices = append(indices, result.Index)
		}
	}
	expect(t, "order", indices, []int{0, 1, 2, 3})
	expect(t, "held", len(order.held), 0)
}
