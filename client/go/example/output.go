package main

import (
	"encoding/json"
	"errors"
	"io"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"

	rmgrpc "github.com/rm-grpc/rm-grpc/client/go"
)

// writer writes lines of JSON, each at once.
type writer struct{ encoder *json.Encoder }

func newWriter(output io.Writer) writer {
	encoder := json.NewEncoder(output)
	encoder.SetEscapeHTML(false)
	return writer{encoder}
}

type scoreJSON struct {
	ID          string             `json:"id"`
	Index       int                `json:"index"`
	Score       float32            `json:"score"`
	RawScore    float32            `json:"raw_score"`
	TokenCount  int32              `json:"token_count"`
	ModelDigest string             `json:"model_digest"`
	Attributes  map[string]float32 `json:"attributes,omitempty"`
	Steps       []stepJSON         `json:"steps,omitempty"`
}

type stepJSON struct {
	Score       float32 `json:"score"`
	TokenOffset int32   `json:"token_offset"`
	CharStart   int32   `json:"char_start"`
	CharEnd     int32   `json:"char_end"`
}

type failureJSON struct {
	ID    string    `json:"id"`
	Index int       `json:"index"`
	Error errorJSON `json:"error"`
}

type errorJSON struct {
	Code       string   `json:"code"`
	Reason     string   `json:"reason"`
	Message    string   `json:"message"`
	Field      string   `json:"field,omitempty"`
	RetryDelay *float64 `json:"retry_delay,omitempty"`
}

func (w writer) result(result rmgrpc.Result) error {
	if result.Err != nil {
		return w.encoder.Encode(failureJSON{result.ID, result.Index, errorFields(result.Err)})
	}
	score := result.Score
	line := scoreJSON{
		ID: result.ID, Index: result.Index, Score: score.GetScore(), RawScore: score.GetRawScore(),
		TokenCount: score.GetTokenCount(), ModelDigest: score.GetModelDigest(),
	}
	for _, attribute := range score.GetAttributes() {
		if line.Attributes == nil {
			line.Attributes = make(map[string]float32)
		}
		line.Attributes[attribute.GetName()] = attribute.GetValue()
	}
	for _, step := range score.GetSteps() {
		line.Steps = append(line.Steps, stepJSON{
			step.GetScore(), step.GetTokenOffset(), step.GetCharStart(), step.GetCharEnd(),
		})
	}
	return w.encoder.Encode(line)
}

func (w writer) streamError(err error) error {
	return w.encoder.Encode(map[string]errorJSON{"stream_error": errorFields(err)})
}

func errorFields(err error) errorJSON {
	fields := errorJSON{Code: code.Code(status.Code(err)).String(), Message: err.Error()}
	var typed *rmgrpc.Error
	if errors.As(err, &typed) {
		fields.Reason, fields.Message, fields.Field = string(typed.Reason), typed.Message, typed.Field
		if typed.Retryable {
			delay := typed.RetryDelay.Seconds()
			fields.RetryDelay = &delay
		}
	}
	return fields
}
