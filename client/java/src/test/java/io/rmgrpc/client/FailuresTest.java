package io.rmgrpc.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Metadata;
import io.grpc.Status.Code;
import io.grpc.protobuf.StatusProto;
import java.nio.channels.ClosedChannelException;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class FailuresTest {
  private static final Any FIELD =
      Any.pack(BadRequest.newBuilder().addFieldViolations(FieldViolation.newBuilder().setField("items[0]")).build());

  @Test
  void readsEveryDetail() {
    Status.Builder status = Script.status(Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1.5).toBuilder().addDetails(FIELD);
    ErrorInfo info = ErrorInfo.newBuilder().setReason("OVERLOADED").putMetadata("queue", "9").build();
    RewardException error = Failures.of(status.setDetails(0, Any.pack(info)).build());
    assertEquals(Code.RESOURCE_EXHAUSTED, error.code());
    assertEquals("OVERLOADED", error.reason());
    assertEquals("no", error.description());
    assertEquals("items[0]", error.field());
    assertEquals(Optional.of(Script.seconds(1.5)), error.retryDelay());
    assertEquals(Map.of("queue", "9"), error.metadata());
    assertEquals("RESOURCE_EXHAUSTED/OVERLOADED at items[0]: no", error.getMessage());
  }

  @Test
  void prefersTheRichStatusOfACall() {
    var thrown = StatusProto.toStatusRuntimeException(Script.status(Code.NOT_FOUND, "MODEL_NOT_FOUND", -1));
    RewardException error = Failures.of(thrown.getStatus(), thrown.getTrailers());
    assertEquals(Code.NOT_FOUND, error.code());
    assertEquals("MODEL_NOT_FOUND", error.reason());
  }

  @Test
  void readsACallWithoutDetails() {
    RewardException error = Failures.of(io.grpc.Status.UNAUTHENTICATED.withDescription("who?"), new Metadata());
    assertEquals(Code.UNAUTHENTICATED, error.code());
    assertEquals("UNAUTHENTICATED", error.reason());
    assertEquals("who?", error.description());
  }

  @Test
  void takesADyingConnectionForALostOneWhateverItsCode() {
    io.grpc.Status dying = io.grpc.Status.UNKNOWN.withDescription("channel closed");
    assertEquals(Code.UNAVAILABLE, Failures.of(dying.withCause(new ClosedChannelException()), null).code());
    assertEquals(Code.UNKNOWN, Failures.of(dying, null).code());
    assertEquals(Code.UNKNOWN, Failures.of(dying.withCause(new IllegalStateException()), null).code());
  }

  @Test
  void readsUnknownCodesAndDetails() {
    Any unknown = Any.newBuilder().setTypeUrl("type.googleapis.com/unheard.Of").build();
    RewardException error = Failures.of(Status.newBuilder().setCode(77).addDetails(unknown).addDetails(FIELD).build());
    assertEquals(Code.UNKNOWN, error.code());
    assertEquals("items[0]", error.field());
  }

  @Test
  void keepsTheErrorOfAGarbledDetail() {
    Any garbled = Any.pack(RetryInfo.getDefaultInstance()).toBuilder().setValue(ByteString.fromHex("0aff")).build();
    RewardException error = Failures.of(Status.newBuilder().setCode(3).addDetails(FIELD).addDetails(garbled).build());
    assertEquals(Code.INVALID_ARGUMENT, error.code());
    assertEquals("items[0]", error.field());
  }
}
