package rmgrpc

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestErrorHasTheDetailsOfItsStatus(t *testing.T) {
	st, err := status.New(codes.ResourceExhausted, "full").WithDetails(
		&errdetails.ErrorInfo{Domain: "rm_grpc", Reason: "OVERLOADED", Metadata: map[string]string{"a": "b"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "items"}}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		&errdetails.DebugInfo{Detail: "of no use here"},
	)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "error", fromRPC(context.Background(), st.Err()), &Error{
		Code: codes.ResourceExhausted, Reason: ReasonOverloaded, Message: "full", Field: "items",
		Retryable: true, RetryDelay: 1500 * time.Millisecond, Metadata: map[string]string{"a": "b"},
	})
}

func TestReasonOfAStatusWithoutDetails(t *testing.T) {
	for _, one := range []struct {
		code    codes.Code
		message string
		want    Reason
	}{
		{codes.Unauthenticated, "", ReasonUnauthenticated},
		{codes.PermissionDenied, "", ReasonUnknown},
		{codes.ResourceExhausted, "", ReasonResourceExhausted},
		{codes.ResourceExhausted, "grpc: received message larger than max (9 vs. 8)", ReasonMessageTooLarge},
	} {
		expect(t, one.code.String(), fromRPC(context.Background(), status.Error(one.code, one.message)).Reason, one.want)
	}
}

func TestErrorIsFoundByReasonCodeAndCause(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var err error = contextError(ctx)
	expect(t, "reason", errors.Is(err, ReasonCancelled), true)
	expect(t, "another reason", errors.Is(err, ReasonInternal), false)
	expect(t, "cause", errors.Is(err, context.Canceled), true)
	expect(t, "code", status.Code(err), codes.Canceled)
	expect(t, "text", invalid("field", "told %d", 1).Error(), "INVALID_REQUEST: field: told 1")
}
