package rmgrpc

import (
	"context"
	"fmt"
	"io"
)

// A Token proves to the server who the caller is. It prints as [redacted], whatever the format.
type Token string

const redacted = "[redacted]"

// Format implements fmt.Formatter.
func (Token) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// MarshalText implements encoding.TextMarshaler, so that settings can be written as JSON.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// check holds a token to what a metadata value may be. The error does not show it.
func (t Token) check() *Error {
	for _, char := range t {
		if char <= ' ' || char > '~' {
			return invalid("token", "a token is one word of printable ASCII")
		}
	}
	return nil
}

// bearer adds the token to each call. The token stands in a closure, where printing the client cannot reach it.
type bearer struct {
	authorization func() string
	isEncrypted   bool
}

func newBearer(token Token, isEncrypted bool) bearer {
	return bearer{func() string { return "Bearer " + string(token) }, isEncrypted}
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": b.authorization()}, nil
}

// RequireTransportSecurity holds encrypted clients to it; that others may send their token was settled by Config.check.
func (b bearer) RequireTransportSecurity() bool { return b.isEncrypted }
