package rmgrpc

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

// An Item is one thing to score.
type Item struct {
	// ID comes back on the result. It need not be unique; where it is empty, the item's position stands for it.
	ID string
	// Input is what is scored: a Conversation, Text or TokenIDs; or Refused.
	Input Input
	// Timeout is how long the answer is worth waiting for. Default: the client's.
	Timeout time.Duration
	// Group is a hint: items of one group are likely to share a prompt. It never changes a score.
	Group string
	// Metadata is whatever a scorer may need beside the input, as JSON has it. It is not rendered.
	Metadata map[string]interface{}
}

// Input is a Conversation, Text, TokenIDs or Refused.
type Input interface {
	// put sets the input of a message, or says why it cannot be sent.
	put(item *rmgrpcpb.Item) *Error
}

// A Conversation is rendered by the server, with the model's own chat template. Its last message is the response to score.
type Conversation struct {
	// Messages are in the order in which they were said.
	Messages []Message
	// ToolsJSON is a JSON array of the tools that the assistant could call, or empty.
	ToolsJSON string
}

// A Message is one message of a conversation, in the OpenAI shape.
type Message struct {
	// Role is system, developer, user, assistant or tool.
	Role string
	// Content is the text.
	Content string
	// Parts is the text in pieces, instead of Content: for models that score the steps of a response.
	Parts []string
	// Name is the speaker's, for templates that show it.
	Name string
	// ToolCalls are those that an assistant makes.
	ToolCalls []ToolCall
	// ToolCallID says which call a message of role tool answers.
	ToolCallID string
	// ReasoningContent came before the content, for templates that show it.
	ReasoningContent string
}

// A ToolCall is a call of a tool by the assistant.
type ToolCall struct {
	ID, Name string
	// ArgumentsJSON is the arguments as JSON text.
	ArgumentsJSON string
}

// Text is what the model should read, already rendered.
type Text string

// TokenIDs is what the model should read, already encoded.
type TokenIDs struct {
	IDs []int32
	// TokenizerDigest names the tokenizer that made them, as GetModel tells it. The server refuses ids of another.
	TokenizerDigest string
}

// Refused stands for an input that the caller could not make. The item keeps its place among the others, and its result is Err.
type Refused struct {
	Err *Error
}

// message is the item as it is sent, without its timeout.
func (item Item) message(id string) (*rmgrpcpb.Item, *Error) {
	message := &rmgrpcpb.Item{Id: id, Group: item.Group}
	if item.Timeout < 0 {
		return nil, invalid("timeout", "must not be negative, this one is %v", item.Timeout)
	}
	if err := checkText("group", item.Group); err != nil {
		return nil, err
	}
	if item.Metadata != nil {
		metadata, err := structpb.NewStruct(item.Metadata)
		if err != nil {
			return nil, invalid("metadata", "cannot be sent: %v", err)
		}
		message.Metadata = metadata
	}
	if item.Input == nil {
		err := invalid("input", "give a Conversation, Text or TokenIDs")
		err.Reason = ReasonNoInput
		return nil, err
	}
	if err := item.Input.put(message); err != nil {
		return nil, err
	}
	return message, nil
}

func (c Conversation) put(item *rmgrpcpb.Item) *Error {
	if err := checkText("conversation.tools_json", c.ToolsJSON); err != nil {
		return err
	}
	messages := make([]*rmgrpcpb.Message, len(c.Messages))
	for at, message := range c.Messages {
		sent, err := message.message(fmt.Sprintf("conversation.messages[%d]", at))
		if err != nil {
			return err
		}
		messages[at] = sent
	}
	item.Input = &rmgrpcpb.Item_Conversation{Conversation: &rmgrpcpb.Conversation{Messages: messages, ToolsJson: c.ToolsJSON}}
	return nil
}

func (m Message) message(where string) (*rmgrpcpb.Message, *Error) {
	for _, one := range []struct{ field, text string }{
		{"role", m.Role}, {"name", m.Name}, {"tool_call_id", m.ToolCallID}, {"reasoning_content", m.ReasoningContent},
	} {
		if err := checkText(where+"."+one.field, one.text); err != nil {
			return nil, err
		}
	}
	message := &rmgrpcpb.Message{
		Role: m.Role, Name: m.Name, ToolCallId: m.ToolCallID, ReasoningContent: m.ReasoningContent,
	}
	parts := m.Parts
	if parts == nil {
		parts = []string{m.Content}
	} else if m.Content != "" {
		return nil, invalid(where+".content", "give either Content or Parts")
	}
	for at, part := range parts {
		if err := checkText(fmt.Sprintf("%s.content[%d]", where, at), part); err != nil {
			return nil, err
		}
		message.Content = append(message.Content, &rmgrpcpb.ContentPart{Part: &rmgrpcpb.ContentPart_Text{Text: part}})
	}
	for at, call := range m.ToolCalls {
		if err := checkText(fmt.Sprintf("%s.tool_calls[%d]", where, at), call.ID, call.Name, call.ArgumentsJSON); err != nil {
			return nil, err
		}
		message.ToolCalls = append(message.ToolCalls, &rmgrpcpb.ToolCall{
			Id: call.ID, Name: call.Name, ArgumentsJson: call.ArgumentsJSON,
		})
	}
	return message, nil
}

func (t Text) put(item *rmgrpcpb.Item) *Error {
	if err := checkText("text", string(t)); err != nil {
		return err
	}
	item.Input = &rmgrpcpb.Item_Text{Text: string(t)}
	return nil
}

func (t TokenIDs) put(item *rmgrpcpb.Item) *Error {
	if err := checkText("tokens.tokenizer_digest", t.TokenizerDigest); err != nil {
		return err
	}
	ids := make([]byte, 4*len(t.IDs))
	for at, id := range t.IDs {
		binary.LittleEndian.PutUint32(ids[4*at:], uint32(id))
	}
	item.Input = &rmgrpcpb.Item_Tokens{Tokens: &rmgrpcpb.TokenIds{Ids: ids, TokenizerDigest: t.TokenizerDigest}}
	return nil
}

func (r Refused) put(*rmgrpcpb.Item) *Error {
	if r.Err == nil {
		return invalid("input", "was refused by the caller")
	}
	return r.Err
}

// checkText refuses what protobuf cannot hold as a string. Found only while a message is being sent, it would end the stream.
func checkText(field string, texts ...string) *Error {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return invalid(field, "is not valid UTF-8")
		}
	}
	return nil
}
