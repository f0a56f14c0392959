package io.rmgrpc.client;

import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import io.netty.handler.ssl.SslContext;
import io.rmgrpc.v1.Item;
import io.rmgrpc.v1.ItemResult;
import io.rmgrpc.v1.ListModelsRequest;
import io.rmgrpc.v1.ListModelsResponse;
import io.rmgrpc.v1.ModelInfo;
import io.rmgrpc.v1.Results;
import io.rmgrpc.v1.RewardServiceGrpc.RewardServiceImplBase;
import io.rmgrpc.v1.Score;
import io.rmgrpc.v1.ScoreBatchRequest;
import io.rmgrpc.v1.ScoreBatchResponse;
import io.rmgrpc.v1.StreamOpened;
import io.rmgrpc.v1.Window;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.locks.LockSupport;

/** A server on this machine that scores an item of text with the length of the text; "silence" it never answers. */
final class FakeServer extends RewardServiceImplBase implements AutoCloseable {
  static final int WINDOW = 4;

  /** What the calls so far carried as authorization. */
  final List<String> tokens = new CopyOnWriteArrayList<>();

  /** Thrown at whoever opens a stream, if it is set. */
  volatile io.grpc.Status refusal;

  final int port;

  private final Server server;
  private final List<StreamObserver<ScoreBatchResponse>> streams = new CopyOnWriteArrayList<>();

  /**
   * @param port 0 for any
   * @param encryption null for none
   */
  FakeServer(int port, SslContext encryption) throws IOException {
    server = started(port, encryption);
    this.port = server.getPort();
  }

  private Server started(int port, SslContext encryption) throws IOException {
    InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), port);
    for (int tries = 1; ; tries++) {
      try {
        return NettyServerBuilder.forAddress(address)
            .sslContext(encryption)
            .intercept(new Tokens())
            .addService(this)
            .build()
            .start();
      } catch (IOException error) {
        // A selector holds a closed socket until it looks again, so that the port of the server before is free a little later.
        if (tries == 100) {
          throw error;
        }
        LockSupport.parkNanos(20_000_000);
      }
    }
  }

  FakeServer() throws IOException {
    this(0, null);
  }

  String address() {
    return "127.0.0.1:" + port;
  }

  /** Goes: streams end with UNAVAILABLE. */
  @Override
  public void close() {
    server.shutdown();
    for (StreamObserver<ScoreBatchResponse> stream : streams) {
      try {
        stream.onError(io.grpc.Status.UNAVAILABLE.asRuntimeException());
      } catch (IllegalStateException error) {
        continue; // It has ended.
      }
    }
    try {
      server.shutdownNow().awaitTermination();
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public void listModels(ListModelsRequest request, StreamObserver<ListModelsResponse> observer) {
    observer.onNext(ListModelsResponse.newBuilder().addModels(ModelInfo.newBuilder().setName("length")).build());
    observer.onCompleted();
  }

  @Override
  public StreamObserver<ScoreBatchRequest> scoreBatch(StreamObserver<ScoreBatchResponse> observer) {
    streams.add(observer);
    return new StreamObserver<>() {
      @Override
      public void onNext(ScoreBatchRequest request) {
        if (refusal != null) {
          observer.onError(refusal.asRuntimeException());
        } else if (request.hasOpen()) {
          StreamOpened.Builder opened = StreamOpened.newBuilder().setWindow(Window.newBuilder().setItems(WINDOW));
          observer.onNext(ScoreBatchResponse.newBuilder().setOpened(opened).build());
        } else {
          request.getItems().getItemsList().stream().filter(item -> !item.getText().equals("silence")).forEach(this::score);
        }
      }

      private void score(Item item) {
        ItemResult.Builder result = ItemResult.newBuilder().setId(item.getId());
        result.setScore(Score.newBuilder().setScore(item.getText().length()));
        observer.onNext(ScoreBatchResponse.newBuilder().setResults(Results.newBuilder().addResults(result)).build());
      }

      @Override
      public void onError(Throwable error) {}

      @Override
      public void onCompleted() {
        observer.onCompleted();
      }
    };
  }

  private final class Tokens implements ServerInterceptor {
    private static final Metadata.Key<String> KEY = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
      tokens.add(String.valueOf(headers.get(KEY)));
      return next.startCall(call, headers);
    }
  }
}
