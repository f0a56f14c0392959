package rmgrpc

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

func TestItemsOnTheWire(t *testing.T) {
	for name, one := range map[string]struct {
		item Item
		want string
	}{
		"text":   {Item{ID: "a", Input: Text("x"), Group: "g"}, `id: "7" group: "g" text: "x"`},
		"tokens": {Item{Input: TokenIDs{[]int32{1, -1, 258}, "d"}}, `id: "7" tokens {ids: "\1\0\0\0\377\377\377\377\2\1\0\0" tokenizer_digest: "d"}`},
		"metadata": {
			Item{Input: Text("x"), Metadata: map[string]interface{}{"a": []interface{}{1.5, nil}}},
			`id: "7" text: "x" metadata {fields {key: "a" value {list_value {values {number_value: 1.5} values {null_value: NULL_VALUE}}}}}`,
		},
		"conversation": {
			Item{Input: Conversation{
				ToolsJSON: "[]",
				Messages: []Message{
					{Role: "user", Content: "2+2?", Name: "Ada"},
					{Role: "assistant", ReasoningContent: "easy", ToolCalls: []ToolCall{{"c", "add", "{}"}}},
					{Role: "tool", Content: "4", ToolCallID: "c"},
					{Role: "assistant", Parts: []string{"It is ", "4."}},
				},
			}},
			`id: "7" conversation {
				tools_json: "[]"
				messages {role: "user" content {text: "2+2?"} name: "Ada"}
				messages {
					role: "assistant" content {text: ""} reasoning_content: "easy"
					tool_calls {id: "c" name: "add" arguments_json: "{}"}
				}
				messages {role: "tool" content {text: "4"} tool_call_id: "c"}
				messages {role: "assistant" content {text: "It is "} content {text: "4."}}
			}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := one.item.message("7")
			if err != nil {
				t.Fatal(err)
			}
			want := &rmgrpcpb.Item{}
			if err := prototext.Unmarshal([]byte(one.want), want); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
