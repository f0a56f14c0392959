package rmgrpc

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

const (
	// firstPause and longestPause bound the time between attempts to connect.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
	// leastAttempt is what an attempt to connect may take, however little of the time to reconnect is left.
	leastAttempt = time.Second
	// linger is the time for a connection to end by itself, once all results are given.
	linger = time.Second
)

var (
	errFinished     = invalid("", "Send after Finish")
	errClientClosed = newError(codes.Canceled, "the client was closed")
)

// A Stream scores items as they are sent, and gives each result as it is ready. It outlives connections: what a lost server
// has not answered is sent again. Its methods may be called by several goroutines at once; items are usually sent by one and
// results read by another, since Send waits while the caller has many results to read.
type Stream struct {
	conn      *grpc.ClientConn
	reconnect time.Duration
	ctx       context.Context
	cancel    context.CancelFunc

	mu      sync.Mutex // guards what follows, up to the empty line
	session *session
	order   *submissionOrder // nil for completion
	results []Result
	err     error // what the stream failed with
	ended   bool  // whether run has returned
	work    signal
	room    signal
	ready   signal
	timer   *time.Timer
	armed   time.Time // when the timer is due; zero for not at all

	finished chan struct{} // closed when every item has its result and no more comes
	done     chan struct{} // closed when run has returned

	// Of run alone: since when no server has answered, zero while one does; and how long to rest before the next is tried.
	silentSince time.Time
	pause       time.Duration
}

// newStream makes a stream; run is to be started.
func newStream(ctx context.Context, conn *grpc.ClientConn, session *session, config Config) *Stream {
	s := &Stream{
		conn:      conn,
		reconnect: config.Reconnect,
		session:   session,
		work:      newSignal(),
		room:      newSignal(),
		ready:     newSignal(),
		finished:  make(chan struct{}),
		done:      make(chan struct{}),
	}
	if config.Ordering == Submission {
		s.order = newSubmissionOrder()
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.timer = time.AfterFunc(time.Hour, s.tick)
	s.timer.Stop()
	return s
}

// Send gives an item to the stream and returns its position, which its result will carry as Index. It waits while as many
// items are on their way, or results unread, as the server's window allows.
//
// An item that cannot be scored is no error here: it gets a result with an error, like any other. Send returns an error where
// ctx has ended, where the stream has failed, and after Finish.
func (s *Stream) Send(ctx context.Context, item Item) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case ctx.Err() != nil:
			return 0, contextError(ctx)
		case s.err != nil:
			return 0, s.err
		case s.session.sourceEnded:
			return 0, errFinished
		case s.session.hasRoom(s.unread()):
			index := s.session.take(item, time.Now())
			s.changed()
			return index, nil
		}
		s.wait(ctx, s.room)
	}
}

// Finish says that no more items come. Results go on until every item has one.
func (s *Stream) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session.sourceEnded = true
	s.changed()
}

// Cancel takes back the item of that position. It still gets its result: CANCELLED, unless it is scored already.
func (s *Stream) Cancel(index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.session.withdraw(index)
		s.changed()
	}
}

// Next waits for a result. It returns io.EOF after Finish, once every item's result was given; the stream's *Error where it has
// failed as a whole, for good; or an *Error that wraps ctx's where ctx ends first, and then the stream goes on.
func (s *Stream) Next(ctx context.Context) (Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case len(s.results) > 0:
			result := s.results[0]
			s.results[0] = Result{}
			s.results = s.results[1:]
			s.room.raise()
			return result, nil
		case s.err != nil:
			return Result{}, s.err
		case s.ended:
			return Result{}, io.EOF
		case ctx.Err() != nil:
			return Result{}, contextError(ctx)
		}
		s.wait(ctx, s.ready)
	}
}

// Close gives the stream up, if it has not ended, and waits for its goroutines. Items without a result get none.
func (s *Stream) Close() {
	s.cancel()
	<-s.done
}

// wait lets go of the lock until the signal is raised or ctx ends.
func (s *Stream) wait(ctx context.Context, signal signal) {
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-signal:
	case <-ctx.Done():
	}
}

// changed tells the sender that the session has changed, after deliver. With the lock held.
func (s *Stream) changed() {
	s.deliver()
	s.work.raise()
}

// deliver passes on what the session has settled, and winds the clock. With the lock held.
func (s *Stream) deliver() {
	if settled := s.session.takeSettled(); len(settled) > 0 {
		if s.order != nil {
			settled = s.order.take(settled)
		}
		s.results = append(s.results, settled...)
		s.ready.raise()
	}
	s.room.raise()
	if s.session.isFinished() {
		select {
		case <-s.finished:
		default:
			close(s.finished)
		}
	}
	if wake := s.session.wake; !wake.IsZero() && (s.armed.IsZero() || wake.Before(s.armed)) {
		s.armed = wake
		s.timer.Reset(time.Until(wake))
	}
}

// tick lets time do its work, whatever the connection does.
func (s *Stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = time.Time{}
	if !s.ended {
		s.session.advance(time.Now())
		s.changed()
	}
}

// unread is how many results the caller has not read, those that are held back included. With the lock held.
func (s *Stream) unread() int {
	if s.order == nil {
		return len(s.results)
	}
	return len(s.results) + len(s.order.held)
}

// run keeps a connection for as long as results are owed.
func (s *Stream) run() {
	err := s.drive()
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(s.done)
	if s.err == nil && err != nil {
		s.err = err
	}
	s.ended = true
	s.timer.Stop()
	s.work.raise()
	s.room.raise()
	s.ready.raise()
}

func (s *Stream) drive() error {
	for {
		if isFinished, err := s.awaitItems(); isFinished || err != nil {
			return err
		}
		s.noteSilence()
		lost, err := s.connection()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.session.disconnected()
		s.changed()
		s.mu.Unlock()
		s.noteSilence()
		if time.Since(s.silentSince) >= s.reconnect && !s.isFinished() {
			return newError(codes.Unavailable, "no server answered for %v; last: %v", s.reconnect, lost)
		}
		s.rest()
	}
}

// awaitItems waits until results are owed; tells whether none will be any more.
func (s *Stream) awaitItems() (isFinished bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.session.isFinished():
			return true, nil
		case s.ctx.Err() != nil:
			return false, contextError(s.ctx)
		case !s.session.owesNothing():
			return false, nil
		}
		s.silentSince = time.Time{}
		s.wait(s.ctx, s.work)
	}
}

// noteSilence counts from now that no server answers, unless it does so already.
func (s *Stream) noteSilence() {
	if s.silentSince.IsZero() {
		s.silentSince, s.pause = time.Now(), firstPause
	}
}

// rest pauses between connections, longer each time that no server answers.
func (s *Stream) rest() {
	timer := time.NewTimer(s.pause)
	defer timer.Stop()
	if s.pause *= 2; s.pause > longestPause {
		s.pause = longestPause
	}
	select {
	case <-timer.C:
	case <-s.finished:
	case <-s.ctx.Done():
	}
}

// connection is one connection to its end. It returns how the connection was lost, or the error that sending again cannot mend.
func (s *Stream) connection() (lost string, err error) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	go func() {
		select {
		case <-s.finished:
			time.AfterFunc(linger, cancel)
		case <-ctx.Done():
		}
	}()

	limit := time.Until(s.silentSince.Add(s.reconnect))
	if limit < leastAttempt {
		limit = leastAttempt
	}
	connecting := time.AfterFunc(limit, cancel)
	s.conn.ResetConnectBackoff() // or it waits for what failed while nothing was owed
	call, err := rmgrpcpb.NewRewardServiceClient(s.conn).ScoreBatch(ctx, grpc.WaitForReady(true))
	isLate := !connecting.Stop()
	switch {
	case isLate && s.ctx.Err() == nil:
		return status.Convert(err).Message(), nil // it tells why there is no connection
	case err != nil:
		return s.lost(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.send(ctx, call)
	}()
	defer func() {
		cancel()
		<-sent
	}()
	for {
		response, err := call.Recv()
		if err != nil {
			return s.lost(err)
		}
		s.silentSince = time.Time{}
		s.mu.Lock()
		s.session.receive(response, time.Now())
		s.changed()
		s.mu.Unlock()
	}
}

// lost sorts the ends of calls into those after which another connection may help, and the others.
func (s *Stream) lost(end error) (string, error) {
	if s.isFinished() {
		return "", nil
	}
	if end == io.EOF {
		return "the stream ended before every item was answered", nil // a server's death can look so
	}
	err := fromRPC(s.ctx, end)
	if err.Code == codes.Unavailable || err.Code == codes.Canceled { // cancelled, and not by us: a server or a proxy that goes
		return err.Message, nil
	}
	return "", err
}

func (s *Stream) isFinished() bool {
	select {
	case <-s.finished:
		return true
	default:
		return false
	}
}

// send writes what the session has to send, until nothing is owed any more. Where it fails, the reader learns why.
func (s *Stream) send(ctx context.Context, call rmgrpcpb.RewardService_ScoreBatchClient) {
	message := s.session.open()
	for {
		if message != nil {
			if call.Send(message) != nil {
				return
			}
		}
		s.mu.Lock()
		message = s.session.next(time.Now())
		s.deliver()
		isFinished, work := s.session.isFinished(), s.work
		s.mu.Unlock()
		switch {
		case message != nil:
		case isFinished:
			_ = call.CloseSend()
			return
		default:
			select {
			case <-work:
			case <-ctx.Done():
				return
			}
		}
	}
}

// fail ends the stream with an error.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil && !s.ended {
		s.err = err
	}
	s.mu.Unlock()
	s.cancel()
}
