package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	rmgrpc "github.com/rm-grpc/rm-grpc/client/go"
)

// longestSeconds is where protobuf's durations end.
const longestSeconds = 3e11

// parse reads a line: an item, or the id of those to take back. A line that is neither is an item that is refused.
func parse(line []byte) (item rmgrpc.Item, cancel *string) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		item.Input = rmgrpc.Refused{Err: refusal("", err)}
		return item, nil
	}
	var taken *name
	err := read(fields, "cancel", &taken)
	if err == nil && taken != nil {
		return item, (*string)(taken)
	}
	if err == nil {
		err = fill(&item, fields)
	}
	if err == nil && !isUnicode(line) {
		err = refusal("", errors.New("the line is not valid Unicode"))
	}
	if err != nil {
		item.Input = rmgrpc.Refused{Err: err}
	}
	return item, nil
}

func fill(item *rmgrpc.Item, fields map[string]json.RawMessage) *rmgrpc.Error {
	var timeout *float64
	for _, err := range []*rmgrpc.Error{
		read(fields, "id", (*name)(&item.ID)), // first, since a refused item has its id too
		read(fields, "group", (*name)(&item.Group)),
		read(fields, "timeout", &timeout),
		read(fields, "metadata", &item.Metadata),
	} {
		if err != nil {
			return err
		}
	}
	if timeout != nil {
		if *timeout < 0 || *timeout >= longestSeconds {
			return refusal("timeout", errors.New("must be seconds, as a number that is not negative"))
		}
		item.Timeout = durationOf(*timeout)
	}
	if unknown := unknownKeys(fields); len(unknown) > 0 {
		return refusal(unknown[0], errors.New("is no field of a line"))
	}
	input, err := inputOf(fields)
	item.Input = input
	return err
}

func unknownKeys(fields map[string]json.RawMessage) []string {
	var unknown []string
	for key := range fields {
		switch key {
		case "id", "messages", "tools", "text", "timeout", "group", "metadata", "cancel":
		default:
			unknown = append(unknown, key)
		}
	}
	sort.Strings(unknown)
	return unknown
}

func inputOf(fields map[string]json.RawMessage) (rmgrpc.Input, *rmgrpc.Error) {
	var text *string
	var messages, tools []json.RawMessage
	for _, err := range []*rmgrpc.Error{
		read(fields, "text", &text), read(fields, "messages", &messages), read(fields, "tools", &tools),
	} {
		if err != nil {
			return nil, err
		}
	}
	switch {
	case text == nil && messages == nil:
		return nil, refusal("", errors.New("a line needs messages, text or cancel"))
	case text != nil && messages != nil:
		return nil, refusal("text", errors.New("goes without messages; give one of them"))
	case text != nil && tools != nil:
		return nil, refusal("tools", errors.New("go with messages, not with text"))
	case text != nil:
		return rmgrpc.Text(*text), nil
	}
	conversation := rmgrpc.Conversation{Messages: make([]rmgrpc.Message, len(messages))}
	for at, raw := range messages {
		message, err := messageOf(raw)
		if err != nil {
			return nil, refusal(fmt.Sprintf("messages[%d]", at), err)
		}
		conversation.Messages[at] = message
	}
	if len(tools) > 0 {
		conversation.ToolsJSON = string(fields["tools"]) // as it is: templates print the keys in their order
	}
	return conversation, nil
}

type messageJSON struct {
	Role             *string        `json:"role"`
	Content          content        `json:"content"`
	Name             string         `json:"name"`
	ToolCallID       string         `json:"tool_call_id"`
	ReasoningContent string         `json:"reasoning_content"`
	ToolCalls        []toolCallJSON `json:"tool_calls"`
}

type toolCallJSON struct {
	ID       string `json:"id"`
	Function struct {
		Name      *string `json:"name"`
		Arguments string  `json:"arguments"`
	} `json:"function"`
}

func messageOf(raw json.RawMessage) (rmgrpc.Message, error) {
	var given messageJSON
	if err := json.Unmarshal(raw, &given); err != nil {
		return rmgrpc.Message{}, err
	}
	if given.Role == nil {
		return rmgrpc.Message{}, errors.New("a message needs a role")
	}
	message := rmgrpc.Message{
		Role: *given.Role, Content: given.Content.text, Parts: given.Content.parts, Name: given.Name,
		ToolCallID: given.ToolCallID, ReasoningContent: given.ReasoningContent,
	}
	for _, call := range given.ToolCalls {
		if call.Function.Name == nil {
			return rmgrpc.Message{}, errors.New(`a tool call needs {"function": {"name": ..., "arguments": ...}}`)
		}
		message.ToolCalls = append(message.ToolCalls, rmgrpc.ToolCall{
			ID: call.ID, Name: *call.Function.Name, ArgumentsJSON: call.Function.Arguments,
		})
	}
	return message, nil
}

// content is text, or text in parts, or nothing.
type content struct {
	text  string
	parts []string
}

var errNoText = errors.New("content must be a string or a list of text parts")

func (c *content) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, &c.text) == nil {
		return nil
	}
	var parts []struct {
		Type *string `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return errNoText
	}
	c.parts = make([]string, len(parts))
	for at, part := range parts {
		if part.Text == nil || (part.Type != nil && *part.Type != "text") {
			return errNoText
		}
		c.parts[at] = *part.Text
	}
	return nil
}

// name is a string, or an integer as text.
type name string

func (n *name) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, (*string)(n)) == nil {
		return nil
	}
	var number json.Number
	if err := json.Unmarshal(raw, &number); err != nil || strings.ContainsAny(number.String(), ".eE") {
		return errors.New("must be a string or an integer")
	}
	*n = name(number)
	return nil
}

// read decodes one field, where it is there.
func read(fields map[string]json.RawMessage, key string, into interface{}) *rmgrpc.Error {
	raw, ok := fields[key]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return refusal(key, err)
	}
	return nil
}

func refusal(field string, err error) *rmgrpc.Error {
	refused := &rmgrpc.Error{
		Code: codes.InvalidArgument, Reason: rmgrpc.ReasonInvalidRequest, Field: field, Message: err.Error(),
	}
	var mismatch *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		refused.Message = fmt.Sprintf("is no JSON: %v", err)
	case errors.Is(err, errNoText):
		refused.Reason = rmgrpc.ReasonUnsupportedContent
	case errors.As(err, &mismatch):
		refused.Message = fmt.Sprintf("a JSON %s does not belong here", mismatch.Value)
		refused.Field = strings.Trim(field+"."+mismatch.Field, ".")
	}
	return refused
}

// isUnicode tells whether a JSON text has neither bytes outside UTF-8 nor half of a surrogate pair as an escape, both of which
// encoding/json replaces without a word.
func isUnicode(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	for at := 0; at < len(text); at++ {
		if text[at] != '\\' {
			continue
		}
		first := escaped(text[at:])
		if !utf16.IsSurrogate(first) {
			at++ // the escaped character, which may be a backslash
			continue
		}
		if utf16.DecodeRune(first, escaped(text[at+6:])) == utf8.RuneError {
			return false
		}
		at += 11
	}
	return true
}

// escaped is the code unit of the \uXXXX that the text begins with; 0 where it does not.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(unit)
}
