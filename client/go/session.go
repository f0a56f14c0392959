package rmgrpc

import (
	"sort"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

const (
	// maxMessageBytes is the largest message that is sent and read; the server's default is the same.
	maxMessageBytes = 16 << 20
	// messageOverhead is kept free in a message, for what stands around its items.
	messageOverhead = 1024
	// Items share a message up to these.
	sharedItems = 32
	sharedBytes = 1_000_000
	// firstWindow is how many items are taken from the caller before the server has told its window.
	firstWindow = 256
	// answerGrace is for how long past an item's deadline the server's own answer is still awaited.
	answerGrace = 5 * time.Second
)

// owed is an item without a result.
type owed struct {
	index int
	id    string         // the caller's
	item  *rmgrpcpb.Item // its Id is the one on the wire

	untimedBytes int // without the timeout, which each sending sets anew
	sentBytes    int // as it was last sent

	deadline  time.Time
	retryAt   time.Time // while the item waits to be tried again; else zero
	inFlight  bool
	withdrawn bool
	attempts  int // how often the server had no room for it
	losses    int // how often the connection was lost while a server had it

	downSince time.Time // when a server first said, in this outage, that it cannot score it now
	downUntil time.Time // when the last such answer said to try again
}

// expiry is when the client itself gives up on the item.
func (o *owed) expiry() time.Time { return o.deadline.Add(answerGrace) }

// session is what one stream still owes its caller, over any number of connections. It does no I/O, and the caller brings
// the clock: the stream around it feeds it items and responses, asks what to send next, and takes what is settled. After a
// lost connection everything unanswered is sent again, so that each item gets exactly one result whatever happens between.
type session struct {
	opening   *rmgrpcpb.OpenStream
	timeout   time.Duration
	reconnect time.Duration
	attempts  int

	owed    map[string]*owed // by the id on the wire
	unsent  []*owed          // may hold some that are settled meanwhile
	cancels []string
	settled []Result
	taken   int
	wake    time.Time // when time alone changes something, or before; zero for never

	inFlight, inFlightBytes int
	windowItems             int
	windowBytes             int64
	maxMessage              int64

	isOpen      bool
	draining    bool
	sourceEnded bool
}

func newSession(opening *rmgrpcpb.OpenStream, timeout, reconnect time.Duration, attempts int) *session {
	return &session{
		opening:     opening,
		timeout:     timeout,
		reconnect:   reconnect,
		attempts:    attempts,
		owed:        make(map[string]*owed),
		windowItems: firstWindow,
		maxMessage:  maxMessageBytes,
	}
}

// hasRoom tells whether another item may be taken, beside so many results that the caller has not read.
func (s *session) hasRoom(unread int) bool { return len(s.owed)+unread < s.windowItems }

func (s *session) owesNothing() bool { return len(s.owed) == 0 }

// isFinished tells whether no result is owed and no item will come.
func (s *session) isFinished() bool { return s.sourceEnded && s.owesNothing() }

// takeSettled gives the results since the last call.
func (s *session) takeSettled() []Result {
	settled := s.settled
	s.settled = nil
	return settled
}

// take accepts an item and gives its position. An item that cannot be sent is settled at once.
func (s *session) take(item Item, now time.Time) int {
	index := s.taken
	s.taken++
	wireID := strconv.Itoa(index)
	id := item.ID
	if id == "" {
		id = wireID
	}
	message, err := item.message(wireID)
	if err != nil {
		s.settled = append(s.settled, Result{ID: id, Index: index, Err: err})
		return index
	}
	timeout := item.Timeout
	if timeout == 0 {
		timeout = s.timeout
	}
	one := &owed{index: index, id: id, item: message, untimedBytes: proto.Size(message), deadline: now.Add(timeout)}
	s.owed[wireID] = one
	s.unsent = append(s.unsent, one)
	s.wakeBy(one.expiry())
	return index
}

// withdraw takes an item back: at once where no server has it, else the server's result is the result.
func (s *session) withdraw(index int) {
	one := s.owed[strconv.Itoa(index)]
	if one == nil || one.withdrawn {
		return
	}
	one.withdrawn = true
	if one.inFlight {
		s.cancels = append(s.cancels, one.item.Id)
	} else {
		s.fail(one, takenBack())
	}
}

// open gives the first message of a connection.
func (s *session) open() *rmgrpcpb.ScoreBatchRequest {
	return &rmgrpcpb.ScoreBatchRequest{Message: &rmgrpcpb.ScoreBatchRequest_Open{Open: s.opening}}
}

// next gives what may be sent now: ids of items that are taken back, or items; nil for nothing.
func (s *session) next(now time.Time) *rmgrpcpb.ScoreBatchRequest {
	s.advance(now)
	if !s.isOpen {
		return nil
	}
	if len(s.cancels) > 0 {
		cancel := &rmgrpcpb.CancelItems{Ids: s.cancels}
		s.cancels = nil
		return &rmgrpcpb.ScoreBatchRequest{Message: &rmgrpcpb.ScoreBatchRequest_Cancel{Cancel: cancel}}
	}
	if items := s.nextItems(now); len(items) > 0 {
		return &rmgrpcpb.ScoreBatchRequest{Message: &rmgrpcpb.ScoreBatchRequest_Items{Items: &rmgrpcpb.Items{Items: items}}}
	}
	return nil
}

func (s *session) nextItems(now time.Time) []*rmgrpcpb.Item {
	var items []*rmgrpcpb.Item
	var size int64
	for len(s.unsent) > 0 && !s.draining && len(items) < sharedItems && s.inFlight < s.windowItems {
		one := s.unsent[0]
		if s.owed[one.item.Id] != one {
			s.dropUnsent()
			continue
		}
		timeout := durationpb.New(remaining(one.deadline, now))
		bytes := int64(one.untimedBytes + timedBytes(timeout))
		if bytes > s.maxMessage-messageOverhead {
			s.dropUnsent()
			err := newError(codes.ResourceExhausted, "the item has %d bytes, and messages may have %d", bytes, s.maxMessage)
			err.Reason = ReasonMessageTooLarge
			s.fail(one, err)
			continue
		}
		isWindowFull := s.inFlight > 0 && int64(s.inFlightBytes)+bytes > s.windowBytes
		isMessageFull := len(items) > 0 && (size+bytes > sharedBytes || size+bytes > s.maxMessage-messageOverhead)
		if isWindowFull || isMessageFull {
			break
		}
		s.dropUnsent()
		one.item.Timeout = timeout
		one.sentBytes = int(bytes)
		one.inFlight = true
		s.inFlight++
		s.inFlightBytes += one.sentBytes
		size += bytes
		items = append(items, one.item)
	}
	return items
}

func (s *session) dropUnsent() {
	s.unsent[0] = nil
	s.unsent = s.unsent[1:]
}

// receive takes a message of the server. Kinds that this client does not know are skipped.
func (s *session) receive(response *rmgrpcpb.ScoreBatchResponse, now time.Time) {
	switch message := response.Message.(type) {
	case *rmgrpcpb.ScoreBatchResponse_Results:
		for _, outcome := range message.Results.GetResults() {
			s.settle(outcome, now)
		}
	case *rmgrpcpb.ScoreBatchResponse_Opened:
		s.isOpen = true
		s.setWindow(message.Opened.GetWindow())
		s.maxMessage = maxMessageBytes
		if limit := message.Opened.GetModel().GetLimits().GetMaxMessageBytes(); limit > 0 && limit < s.maxMessage {
			s.maxMessage = limit
		}
	case *rmgrpcpb.ScoreBatchResponse_Window:
		s.setWindow(message.Window)
	case *rmgrpcpb.ScoreBatchResponse_Draining:
		s.draining = true
	}
}

func (s *session) setWindow(window *rmgrpcpb.Window) {
	s.windowItems, s.windowBytes = int(window.GetItems()), window.GetBytes()
	if s.windowItems <= 0 {
		s.windowItems = firstWindow
	}
	if s.windowBytes <= 0 {
		s.windowBytes = 1 << 62
	}
}

func (s *session) settle(outcome *rmgrpcpb.ItemResult, now time.Time) {
	one := s.owed[outcome.GetId()]
	if one == nil || !one.inFlight {
		return // answered before, or expired here
	}
	s.land(one)
	err := errorOf(outcome)
	switch {
	case err == nil:
		s.give(one, Result{Score: outcome.GetScore()})
	case !s.retry(one, err, now):
		s.give(one, Result{Err: err})
	}
}

// retry arranges for the item to be sent again, if it may be.
func (s *session) retry(one *owed, err *Error, now time.Time) bool {
	if !err.Retryable || one.withdrawn {
		return false
	}
	if err.Reason == ReasonDraining {
		// This server is going down: the next connection finds another, or it again.
		s.unsent = append(s.unsent, one)
		s.draining = true
		return true
	}
	var again time.Time
	var isOver bool
	if err.Code == codes.Unavailable {
		// The server is there, and its scorers are not: they come back, or another server is no better off.
		if one.downSince.IsZero() || now.After(one.downUntil.Add(answerGrace)) {
			one.downSince = now
		}
		again = now.Add(err.RetryDelay)
		one.downUntil = again
		isOver = now.Sub(one.downSince) >= s.reconnect
	} else {
		one.attempts++
		again = now.Add(err.RetryDelay * time.Duration(one.attempts))
		isOver = one.attempts >= s.attempts
	}
	if isOver || !again.Before(one.deadline) {
		return false
	}
	one.retryAt = again
	s.wakeBy(again)
	return true
}

// disconnected takes note that the connection is gone: what was in flight is to be sent again on the next.
func (s *session) disconnected() {
	s.isOpen, s.draining = false, false
	s.cancels = nil
	var again []*owed
	for _, one := range s.owed {
		if one.inFlight {
			again = append(again, one)
		}
	}
	sort.Slice(again, func(a, b int) bool { return again[a].index < again[b].index })
	var unsent []*owed
	for _, one := range again {
		s.land(one)
		one.losses++
		switch {
		case one.withdrawn:
			s.fail(one, takenBack())
		case one.losses >= s.attempts:
			s.fail(one, newError(codes.Unavailable, "the server was lost %d times with this item", one.losses))
		default:
			unsent = append(unsent, one)
		}
	}
	s.unsent = append(unsent, s.unsent...)
}

// advance settles what time alone settles, and readies items whose time to be tried again has come.
func (s *session) advance(now time.Time) {
	if s.wake.IsZero() || now.Before(s.wake) {
		return
	}
	s.wake = time.Time{}
	var late, due []*owed
	for _, one := range s.owed {
		switch {
		case !now.Before(one.expiry()):
			late = append(late, one)
			continue
		case one.retryAt.IsZero():
		case now.Before(one.retryAt):
			s.wakeBy(one.retryAt)
		default:
			due = append(due, one)
		}
		s.wakeBy(one.expiry())
	}
	sort.Slice(late, func(a, b int) bool { return late[a].index < late[b].index })
	for _, one := range late {
		s.fail(one, newError(codes.DeadlineExceeded, "the item's time ran out without an answer of the server"))
	}
	sort.Slice(due, func(a, b int) bool {
		if !due[a].retryAt.Equal(due[b].retryAt) {
			return due[a].retryAt.Before(due[b].retryAt)
		}
		return due[a].index < due[b].index
	})
	for _, one := range due {
		one.retryAt = time.Time{}
		s.unsent = append(s.unsent, one)
	}
}

func (s *session) wakeBy(at time.Time) {
	if s.wake.IsZero() || at.Before(s.wake) {
		s.wake = at
	}
}

// land takes an item out of what is in flight.
func (s *session) land(one *owed) {
	if one.inFlight {
		one.inFlight = false
		s.inFlight--
		s.inFlightBytes -= one.sentBytes
	}
}

func (s *session) fail(one *owed, err *Error) {
	s.land(one)
	s.give(one, Result{Err: err})
}

func (s *session) give(one *owed, result Result) {
	delete(s.owed, one.item.Id)
	result.ID, result.Index = one.id, one.index
	s.settled = append(s.settled, result)
}

func takenBack() *Error { return newError(codes.Canceled, "taken back by the caller") }

// remaining is the time from now to the deadline, not below zero.
func remaining(deadline, now time.Time) time.Duration {
	if left := deadline.Sub(now); left > 0 {
		return left
	}
	return 0
}

// timedBytes is what an item's timeout adds to its size: the duration, its tag and its length, of one byte each.
func timedBytes(timeout *durationpb.Duration) int { return proto.Size(timeout) + 2 }
