package rmgrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

// A Client asks one reward service, over a connection of its own. It may be used by many goroutines at once. Close it.
type Client struct {
	config Config // without the token
	conn   *grpc.ClientConn
	stub   rmgrpcpb.RewardServiceClient

	mu       sync.Mutex
	streams  map[*Stream]struct{} // those whose run has not returned
	isClosed bool
}

// NewClient makes a client. It connects when it is first used; what is wrong with the settings is an error here.
func NewClient(config Config) (*Client, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, err
	}
	options, err := config.dialOptions()
	if err != nil {
		return nil, err
	}
	config.Token = ""
	if config.Options != nil {
		config.Options = proto.Clone(config.Options).(*rmgrpcpb.ScoreOptions)
	}
	conn, dialErr := grpc.Dial(config.Address, options...)
	if dialErr != nil {
		return nil, invalid("address", "%v", dialErr)
	}
	return &Client{
		config:  config,
		conn:    conn,
		stub:    rmgrpcpb.NewRewardServiceClient(conn),
		streams: make(map[*Stream]struct{}),
	}, nil
}

func (c Config) dialOptions() ([]grpc.DialOption, *Error) {
	tlsConfig, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes),
		),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.1, MaxDelay: longestPause},
			MinConnectTimeout: 10 * time.Second,
		}),
	}
	if tlsConfig == nil {
		options = append(options, grpc.WithInsecure())
	} else {
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)))
	}
	if c.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(newBearer(c.Token, tlsConfig != nil)))
	}
	return options, nil
}

// OpenStream opens a stream of items and results. It ends with ctx; see also Stream.Close. Failures show in its results.
func (c *Client) OpenStream(ctx context.Context) *Stream {
	opening := &rmgrpcpb.OpenStream{Model: c.config.Model, Options: c.config.Options}
	session := newSession(opening, c.config.Timeout, c.config.Reconnect, c.config.Attempts)
	stream := newStream(ctx, c.conn, session, c.config)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		stream.fail(errClientClosed)
	}
	c.streams[stream] = struct{}{}
	go func() {
		stream.run()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.streams, stream)
	}()
	return stream
}

// Score scores a list over a stream and gives the results in its order, each a score or an error. It returns an error where
// the stream as a whole fails.
func (c *Client) Score(ctx context.Context, items []Item) ([]Result, error) {
	stream := c.OpenStream(ctx)
	defer stream.Close()
	go func() {
		for _, item := range items {
			if _, err := stream.Send(ctx, item); err != nil {
				return // Next tells it
			}
		}
		stream.Finish()
	}()
	results := make([]Result, len(items))
	for {
		result, err := stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return nil, err
		}
		results[result.Index] = result
	}
}

// ListModels lists the models that are served.
func (c *Client) ListModels(ctx context.Context) ([]*rmgrpcpb.ModelInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	response, err := c.stub.ListModels(ctx, &rmgrpcpb.ListModelsRequest{})
	if err != nil {
		return nil, fromRPC(ctx, err)
	}
	return response.GetModels(), nil
}

// GetModel describes a model; by default, where name is empty, the client's.
func (c *Client) GetModel(ctx context.Context, name string) (*rmgrpcpb.ModelInfo, error) {
	if name == "" {
		name = c.config.Model
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	response, err := c.stub.GetModel(ctx, &rmgrpcpb.GetModelRequest{Name: name})
	if err != nil {
		return nil, fromRPC(ctx, err)
	}
	return response.GetModel(), nil
}

// Tokenize tells what the model would read for each item, and the error that scoring it would give, without scoring.
func (c *Client) Tokenize(ctx context.Context, items []Item) ([]TokenizeResult, error) {
	if len(items) == 0 {
		return nil, nil
	}
	request := &rmgrpcpb.TokenizeRequest{Model: c.config.Model, Options: c.config.Options}
	for at, item := range items {
		id := item.ID
		if id == "" {
			id = fmt.Sprint(at)
		}
		message, err := item.message(id)
		if err != nil {
			err.Field = fmt.Sprintf("items[%d].%s", at, err.Field)
			return nil, err
		}
		request.Items = append(request.Items, message)
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	response, err := c.stub.Tokenize(ctx, request)
	if err != nil {
		return nil, fromRPC(ctx, err)
	}
	results := make([]TokenizeResult, len(response.GetResults()))
	for at, result := range response.GetResults() {
		results[at] = tokenizeResult(result)
	}
	return results, nil
}

// Close ends the streams that are open, with an error, and closes the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	c.isClosed = true
	var open []*Stream
	for stream := range c.streams {
		open = append(open, stream)
	}
	c.mu.Unlock()
	for _, stream := range open {
		stream.fail(errClientClosed)
		<-stream.done
	}
	return c.conn.Close()
}
