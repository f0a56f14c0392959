package main

import (
	"reflect"
	"testing"
	"time"

	rmgrpc "github.com/rm-grpc/rm-grpc/client/go"
)

func TestLines(t *testing.T) {
	for line, want := range map[string]rmgrpc.Item{
		`{"id": "a", "text": "x"}`:                         {ID: "a", Input: rmgrpc.Text("x")},
		`{"id": 7, "text": "x", "group": "g"}`:             {ID: "7", Input: rmgrpc.Text("x"), Group: "g"},
		`{"text": "\ud83d\ude00\\ud83d"}`:                  {Input: rmgrpc.Text(`😀\ud83d`)},
		`{"text": "x", "timeout": 1.5}`:                    {Input: rmgrpc.Text("x"), Timeout: 1500 * time.Millisecond},
		`{"text": "x", "timeout": 0}`:                      {Input: rmgrpc.Text("x"), Timeout: 1},
		`{"text": "x", "timeout": null, "messages": null}`: {Input: rmgrpc.Text("x")},
		`{"messages": []}`:                                 {Input: rmgrpc.Conversation{Messages: []rmgrpc.Message{}}},
		`{"tools": [{"z": 1, "a": 2}], "messages": [
			{"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
			{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"text": "b"}], "refusal": null}
		]}`: {Input: rmgrpc.Conversation{
			ToolsJSON: `[{"z": 1, "a": 2}]`,
			Messages: []rmgrpc.Message{
				{Role: "assistant", ToolCalls: []rmgrpc.ToolCall{{ID: "c", Name: "f", ArgumentsJSON: "{}"}}},
				{Role: "assistant", Parts: []string{"a", "b"}},
			},
		}},
	} {
		if got, cancel := parse([]byte(line)); cancel != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v and %v", line, got, cancel)
		}
	}
}

func TestCancelLine(t *testing.T) {
	if _, cancel := parse([]byte(`{"cancel": "a"}`)); cancel == nil || *cancel != "a" {
		t.Errorf("got %v", cancel)
	}
}

func TestLinesThatAreRefused(t *testing.T) {
	for line, want := range map[string]struct {
		id, field string
		reason    rmgrpc.Reason
	}{
		`no JSON`:                          {"", "", rmgrpc.ReasonInvalidRequest},
		`[]`:                               {"", "", rmgrpc.ReasonInvalidRequest},
		`{}`:                               {"", "", rmgrpc.ReasonInvalidRequest},
		`{"text": "x"} {}`:                 {"", "", rmgrpc.ReasonInvalidRequest},
		`{"text": 5, "id": "a"}`:           {"a", "text", rmgrpc.ReasonInvalidRequest},
		`{"texts": "x", "id": "a"}`:        {"a", "texts", rmgrpc.ReasonInvalidRequest},
		`{"text": "x", "timeout": -1}`:     {"", "timeout", rmgrpc.ReasonInvalidRequest},
		`{"text": "x", "timeout": 1e12}`:   {"", "timeout", rmgrpc.ReasonInvalidRequest},
		`{"text": "x", "id": 1.5}`:         {"", "id", rmgrpc.ReasonInvalidRequest},
		`{"text": "x", "metadata": [1]}`:   {"", "metadata", rmgrpc.ReasonInvalidRequest},
		`{"text": "x", "tools": []}`:       {"", "tools", rmgrpc.ReasonInvalidRequest},
		`{"text": "x", "messages": []}`:    {"", "text", rmgrpc.ReasonInvalidRequest},
		`{"text": "\ud83d x", "id": "a"}`:  {"a", "", rmgrpc.ReasonInvalidRequest},
		`{"text": "\ude00\ud83d"}`:         {"", "", rmgrpc.ReasonInvalidRequest},
		"{\"text\": \"\xff\"}":             {"", "", rmgrpc.ReasonInvalidRequest},
		`{"messages": [{"content": "x"}]}`: {"", "messages[0]", rmgrpc.ReasonInvalidRequest},
		`{"messages": [{"role": "a", "content": [{"type": "image"}]}]}`: {"", "messages[0]", rmgrpc.ReasonUnsupportedContent},
		`{"messages": [{"role": "a", "tool_calls": [{}]}]}`:             {"", "messages[0]", rmgrpc.ReasonInvalidRequest},
		`{"cancel": [1]}`: {"", "cancel", rmgrpc.ReasonInvalidRequest},
	} {
		item, cancel := parse([]byte(line))
		refused, ok := item.Input.(rmgrpc.Refused)
		if cancel != nil || !ok {
			t.Errorf("%s: got %+v", line, item)
			continue
		}
		if item.ID != want.id || refused.Err.Field != want.field || refused.Err.Reason != want.reason {
			t.Errorf("%s: got %q, %+v", line, item.ID, refused.Err)
		}
	}
}
