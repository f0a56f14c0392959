package rmgrpc

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

// A Result is the one outcome of an item: a score or an error.
type Result struct {
	// ID is the item's.
	ID string
	// Index is the item's position: what Send returned for it.
	Index int
	// Score is nil where Err is not.
	Score *rmgrpcpb.Score
	// Err is nil or an *Error.
	Err error
}

// A TokenizeResult tells what a model would read for an item.
type TokenizeResult struct {
	// ID is the item's.
	ID string
	// Tokenization is nil where the item cannot be rendered at all.
	Tokenization *rmgrpcpb.Tokenization
	// Err is nil or the *Error that scoring would give. An item that can be read but would be refused has both.
	Err error
}

// errorOf is the error of an outcome; nil where it has a score.
func errorOf(outcome *rmgrpcpb.ItemResult) *Error {
	switch {
	case outcome.GetScore() != nil:
		return nil
	case outcome.GetError() != nil:
		return fromStatus(status.FromProto(outcome.GetError()))
	default:
		return newError(codes.Internal, "the server answered with neither a score nor an error")
	}
}

func tokenizeResult(result *rmgrpcpb.TokenizeResult) TokenizeResult {
	read := TokenizeResult{ID: result.GetId(), Tokenization: result.GetTokenization()}
	if result.GetError() != nil {
		read.Err = fromStatus(status.FromProto(result.GetError()))
	}
	return read
}
