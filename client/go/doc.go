// Package rmgrpc is the client of rm-grpc, a service that scores conversations with reward models.
//
// A Client asks one server. Its streams score items as they are sent and give each result as it is ready, whatever happens to
// the connection between: every item gets exactly one result, a score or an *Error.
//
// The messages of the contract that callers read, such as scores and descriptions of models, are those of package rmgrpcpb.
package rmgrpc
