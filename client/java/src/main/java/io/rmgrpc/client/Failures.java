package io.rmgrpc.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Metadata;
import io.grpc.protobuf.StatusProto;
import io.netty.handler.codec.http2.Http2Exception;
import java.io.IOException;
import java.time.Duration;
import java.util.Map;

/** The errors that statuses on the wire tell of. */
final class Failures {
  private Failures() {}

  /** The error of a failed call: that of its rich status, where the server sent one. */
  static RewardException of(io.grpc.Status status, Metadata trailers) {
    Throwable cause = status.getCause();
    Status rich = StatusProto.fromStatusAndTrailers(status, trailers == null ? new Metadata() : trailers);
    if (cause == null) {
      return of(rich);
    }
    Status.Builder local = rich.toBuilder();
    if (cause.getMessage() != null) {
      local.setMessage(rich.getMessage() + ": " + cause.getMessage()); // Else all it says is "io exception".
    }
    if (cause instanceof IOException || cause instanceof Http2Exception) {
      local.setCode(io.grpc.Status.Code.UNAVAILABLE.value()); // A connection that dies under a write is UNKNOWN to gRPC.
    }
    return of(local.build()).causedBy(cause);
  }

  /** The error of one item. */
  static RewardException of(Status status) {
    io.grpc.Status.Code code = io.grpc.Status.fromCodeValue(status.getCode()).getCode();
    String reason = reasonOf(code);
    Map<String, String> metadata = Map.of();
    String field = "";
    Duration retryDelay = null;
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getReason().isEmpty() ? reason : info.getReason();
          metadata = info.getMetadataMap();
        } else if (detail.is(BadRequest.class)) {
          BadRequest bad = detail.unpack(BadRequest.class);
          field = bad.getFieldViolationsCount() == 0 ? field : bad.getFieldViolations(0).getField();
        } else if (detail.is(RetryInfo.class)) {
          retryDelay = Durations.of(detail.unpack(RetryInfo.class).getRetryDelay());
        }
      }
    } catch (InvalidProtocolBufferException error) {
      // What could be read stands: a detail that is garbled must not hide the error that it belongs to.
      return new RewardException(code, reason, status.getMessage(), field, retryDelay, metadata).causedBy(error);
    }
    return new RewardException(code, reason, status.getMessage(), field, retryDelay, metadata);
  }

  /** The reason of an error that names none. */
  private static String reasonOf(io.grpc.Status.Code code) {
    return switch (code) {
      case INVALID_ARGUMENT -> Reason.INVALID_REQUEST;
      case NOT_FOUND -> "MODEL_NOT_FOUND";
      case ALREADY_EXISTS -> "DUPLICATE_ID";
      case FAILED_PRECONDITION -> "TOKENIZER_MISMATCH";
      default -> code.name();
    };
  }
}
