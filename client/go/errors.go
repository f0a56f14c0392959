package rmgrpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Reason is the stable name of a kind of failure, finer than its code. It is an error so that errors.Is finds it:
//
//	if errors.Is(result.Err, rmgrpc.ReasonConversationTooLong) { ... }
//
// A server that is newer than this client may give reasons that have no constant here.
type Reason string

// Error returns the reason itself.
func (r Reason) Error() string { return string(r) }

// The reasons that servers give today.
const (
	ReasonUnknown             Reason = "UNKNOWN"
	ReasonInvalidRequest      Reason = "INVALID_REQUEST"
	ReasonEmptyBatch          Reason = "EMPTY_BATCH"
	ReasonNoInput             Reason = "NO_INPUT"
	ReasonNoMessages          Reason = "NO_MESSAGES"
	ReasonNoResponse          Reason = "NO_RESPONSE"
	ReasonNoSteps             Reason = "NO_STEPS"
	ReasonUnknownRole         Reason = "UNKNOWN_ROLE"
	ReasonUnsupportedContent  Reason = "UNSUPPORTED_CONTENT"
	ReasonTemplateRefused     Reason = "TEMPLATE_REFUSED"
	ReasonConversationTooLong Reason = "CONVERSATION_TOO_LONG"
	ReasonForeignChatMarkers  Reason = "FOREIGN_CHAT_MARKERS"
	ReasonControlTokens       Reason = "CONTROL_TOKENS_IN_CONTENT"
	ReasonTokenIDOutOfRange   Reason = "TOKEN_ID_OUT_OF_RANGE"
	ReasonTokenizerMismatch   Reason = "TOKENIZER_MISMATCH"
	ReasonStreamProtocol      Reason = "STREAM_PROTOCOL"
	ReasonModelNotFound       Reason = "MODEL_NOT_FOUND"
	ReasonDuplicateID         Reason = "DUPLICATE_ID"
	ReasonResourceExhausted   Reason = "RESOURCE_EXHAUSTED"
	ReasonOverloaded          Reason = "OVERLOADED"
	ReasonWindowExceeded      Reason = "WINDOW_EXCEEDED"
	ReasonMessageTooLarge     Reason = "MESSAGE_TOO_LARGE"
	ReasonDeadlineExceeded    Reason = "DEADLINE_EXCEEDED"
	ReasonCancelled           Reason = "CANCELLED"
	ReasonUnavailable         Reason = "UNAVAILABLE"
	ReasonDraining            Reason = "DRAINING"
	ReasonUnauthenticated     Reason = "UNAUTHENTICATED"
	ReasonInternal            Reason = "INTERNAL"
	ReasonScoreNotFinite      Reason = "SCORE_NOT_FINITE"
	ReasonScorerFailed        Reason = "SCORER_FAILED"
	ReasonUnparsableVerdict   Reason = "UNPARSABLE_VERDICT"
	ReasonQuarantined         Reason = "QUARANTINED"
)

// reasonOfCode names failures for which no reason was given.
var reasonOfCode = map[codes.Code]Reason{
	codes.Canceled:           ReasonCancelled,
	codes.InvalidArgument:    ReasonInvalidRequest,
	codes.DeadlineExceeded:   ReasonDeadlineExceeded,
	codes.NotFound:           ReasonModelNotFound,
	codes.AlreadyExists:      ReasonDuplicateID,
	codes.ResourceExhausted:  ReasonResourceExhausted,
	codes.FailedPrecondition: ReasonTokenizerMismatch,
	codes.Internal:           ReasonInternal,
	codes.Unavailable:        ReasonUnavailable,
	codes.Unauthenticated:    ReasonUnauthenticated,
}

// An Error is any failure of the service or of this client, of one item or of a whole call.
type Error struct {
	// Code is the gRPC status code; status.Code(err) gives it too.
	Code codes.Code
	// Reason is the kind of failure; errors.Is(err, reason) looks for it.
	Reason Reason
	// Message says what happened, and where there is one, the way out.
	Message string
	// Field is the path of the field that is at fault, or empty.
	Field string
	// Retryable tells whether the server said that trying again may succeed, after RetryDelay.
	Retryable  bool
	RetryDelay time.Duration
	// Metadata holds further facts.
	Metadata map[string]string

	cause error
}

// Error returns the reason, the field where there is one, and the message.
func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s: %s", e.Reason, e.Message)
	}
	return fmt.Sprintf("%s: %s: %s", e.Reason, e.Field, e.Message)
}

// Is reports whether target is the error's Reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == e.Reason
}

// Unwrap returns what caused the error on this side: context.Canceled, an error of the file system, or nil.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus makes status.Code and status.Convert work on the error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

func newError(code codes.Code, format string, args ...interface{}) *Error {
	return &Error{Code: code, Reason: reasonOfCode[code], Message: fmt.Sprintf(format, args...)}
}

// invalid is an error of what the caller gave.
func invalid(field, format string, args ...interface{}) *Error {
	err := newError(codes.InvalidArgument, format, args...)
	err.Field = field
	return err
}

// contextError is the error of a call whose context ended.
func contextError(ctx context.Context) *Error {
	err := newError(codes.Canceled, "the call was given up: %v", ctx.Err())
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err.Code, err.Reason = codes.DeadlineExceeded, ReasonDeadlineExceeded
	}
	err.cause = ctx.Err()
	return err
}

// fromStatus reads the status of an item or of a call, with its details.
func fromStatus(st *status.Status) *Error {
	err := &Error{Code: st.Code(), Message: st.Message()}
	if err.Code == codes.OK {
		err.Code = codes.Unknown // an error that calls itself OK is still an error
	}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			err.Reason, err.Metadata = Reason(detail.GetReason()), detail.GetMetadata()
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				err.Field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			err.Retryable, err.RetryDelay = true, detail.GetRetryDelay().AsDuration()
		}
	}
	if err.Reason == "" {
		err.Reason = reasonOfCode[err.Code]
	}
	if err.Reason == "" {
		err.Reason = ReasonUnknown
	}
	return err
}

// fromRPC reads the error that a call ended with.
func fromRPC(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	typed := fromStatus(status.Convert(err))
	// gRPC's own complaint of a message that is too large comes without details.
	if typed.Reason == ReasonResourceExhausted && strings.Contains(typed.Message, "larger than max") {
		typed.Reason = ReasonMessageTooLarge
	}
	return typed
}
