package io.infinilora.fake;

import io.infinilora.core.AdapterStatus;
import io.infinilora.wire.AdapterCall;
import io.infinilora.wire.AdapterChange;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.BaseEnded;
import io.infinilora.wire.CoordinatorNotice;
import io.infinilora.wire.LeaseGrant;
import io.infinilora.wire.LeaseRelease;
import io.infinilora.wire.LeaseRenewal;
import io.infinilora.wire.LeaseRequest;
import io.infinilora.wire.LeaseRevocation;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Completable;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.VertxOptions;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.eventbus.EventBus;
import io.vertx.core.eventbus.EventBusOptions;
import io.vertx.core.eventbus.MessageCodec;
import io.vertx.core.shareddata.AsyncMap;
import io.vertx.core.shareddata.Counter;
import io.vertx.core.shareddata.Lock;
import io.vertx.core.spi.cluster.ClusterManager;
import io.vertx.core.spi.cluster.NodeInfo;
import io.vertx.core.spi.cluster.NodeListener;
import io.vertx.core.spi.cluster.RegistrationInfo;
import io.vertx.core.spi.cluster.RegistrationListener;
import io.vertx.core.spi.cluster.RegistrationUpdateEvent;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;

/**
 * Several {@link Vertx} of one JVM with a common event bus, as if each were a process: nothing else
 * is shared. Messages go over sockets.
 */
public final class InMemoryCluster {
  private final Map<String, NodeInfo> nodes = new ConcurrentHashMap<>();
  private final Map<String, Set<RegistrationInfo>> registrations = new ConcurrentHashMap<>();
  private final List<Member> members = new CopyOnWriteArrayList<>();
  private final Map<String, Map<Object, Object>> maps = new ConcurrentHashMap<>();
  private final AtomicLong names = new AtomicLong();

  /** A new member; whoever asks for it closes it. */
  public Vertx join() {
    VertxOptions options =
        new VertxOptions()
            .setEventLoopPoolSize(2)
            .setEventBusOptions(new EventBusOptions().setHost("127.0.0.1").setPort(0));
    Vertx vertx =
        Vertx.builder()
            .with(options)
            .withClusterManager(new Member("node-" + names.incrementAndGet()))
            .buildClustered()
            .toCompletionStage()
            .toCompletableFuture()
            .orTimeout(60, TimeUnit.SECONDS)
            .join();
    WireCodecs.registerAll(vertx.eventBus());
    return vertx;
  }

  private List<RegistrationInfo> seenBy(String node, String address) {
    return registrations.getOrDefault(address, Set.of()).stream()
        .filter(r -> !r.localOnly() || r.nodeId().equals(node))
        .toList();
  }

  private void changed(String address) {
    members.forEach(member -> member.tell(address));
  }

  private static Object call(Map<Object, Object> map, Method method, Object[] arguments) {
    return switch (method.getName()) {
      case "get" -> map.get(arguments[0]);
      case "remove" -> map.remove(arguments[0]);
      case "entries" -> Map.copyOf(map);
      case "put" -> {
        map.put(arguments[0], arguments[1]);
        yield null;
      }
      default -> throw new UnsupportedOperationException(method.getName());
    };
  }

  /** One member's view. */
  private final class Member implements ClusterManager {
    private final String id;
    private volatile RegistrationListener listener;
    private volatile boolean active;

    Member(String id) {
      this.id = id;
    }

    void tell(String address) {
      RegistrationListener told = listener;
      if (active && told != null && told.wantsUpdatesFor(address)) {
        told.registrationsUpdated(new RegistrationUpdateEvent(address, seenBy(id, address)));
      }
    }

    @Override
    public void init(Vertx vertx) {}

    @Override
    public String getNodeId() {
      return id;
    }

    @Override
    public List<String> getNodes() {
      return new ArrayList<>(nodes.keySet());
    }

    @Override
    public void nodeListener(NodeListener heard) {}

    @Override
    public void setNodeInfo(NodeInfo info, Completable<Void> done) {
      nodes.put(id, info);
      done.succeed();
    }

    @Override
    public NodeInfo getNodeInfo() {
      return nodes.get(id);
    }

    @Override
    public void getNodeInfo(String node, Completable<NodeInfo> done) {
      NodeInfo info = nodes.get(node);
      done.complete(info, info == null ? new IllegalStateException(node + " has left") : null);
    }

    @Override
    public void join(Completable<Void> done) {
      members.add(this);
      active = true;
      done.succeed();
    }

    @Override
    public void leave(Completable<Void> done) {
      active = false;
      members.remove(this);
      nodes.remove(id);
      registrations.forEach(
          (address, all) -> {
            if (all.removeIf(r -> r.nodeId().equals(id))) {
              changed(address);
            }
          });
      done.succeed();
    }

    @Override
    public boolean isActive() {
      return active;
    }

    @Override
    public void registrationListener(RegistrationListener heard) {
      listener = heard;
    }

    @Override
    public void addRegistration(String address, RegistrationInfo info, Completable<Void> done) {
      registrations.computeIfAbsent(address, a -> ConcurrentHashMap.newKeySet()).add(info);
      changed(address);
      done.succeed();
    }

    @Override
    public void removeRegistration(String address, RegistrationInfo info, Completable<Void> done) {
      registrations.getOrDefault(address, Set.of()).remove(info);
      changed(address);
      done.succeed();
    }

    @Override
    public void getRegistrations(String address, Completable<List<RegistrationInfo>> done) {
      done.succeed(seenBy(id, address));
    }

    @Override
    @SuppressWarnings("unchecked") // Of whatever types its users agree on.
    public <K, V> void getAsyncMap(String name, Completable<AsyncMap<K, V>> done) {
      Map<Object, Object> map = maps.computeIfAbsent(name, n -> new ConcurrentHashMap<>());
      done.succeed(
          (AsyncMap<K, V>)
              Proxy.newProxyInstance(
                  AsyncMap.class.getClassLoader(),
                  new Class<?>[] {AsyncMap.class},
                  (proxy, method, arguments) ->
                      Future.succeededFuture(call(map, method, arguments))));
    }

    @Override
    public <K, V> Map<K, V> getSyncMap(String name) {
      throw new UnsupportedOperationException();
    }

    @Override
    public void getLockWithTimeout(String name, long timeout, Completable<Lock> done) {
      done.fail("not in this cluster");
    }

    @Override
    public void getCounter(String name, Completable<Counter> done) {
      done.fail("not in this cluster");
    }
  }

  /** Sends an object's number. */
  private record Passing<T>(Class<T> type) implements MessageCodec<T, T> {
    private static final Map<Long, Object> SENT = new ConcurrentHashMap<>();
    private static final AtomicLong NUMBERS = new AtomicLong();

    static void registerAll(EventBus bus) {
      Stream.of(
              LeaseRequest.class,
              LeaseGrant.class,
              LeaseRelease.class,
              LeaseRenewal.class,
              BaseEnded.class,
              LeaseRevocation.class,
              LoraLayerRequest.class,
              ShardNotice.class,
              CoordinatorNotice.class,
              AdapterChange.class,
              AdapterListing.class,
              AdapterStatus.class)
          .forEach(type -> register(bus, type));
      for (Class<?> family : List.of(ShardCall.class, AdapterCall.class)) {
        for (Class<?> type : family.getPermittedSubclasses()) {
          register(bus, type);
        }
      }
    }

    private static <T> void register(EventBus bus, Class<T> type) {
      bus.registerDefaultCodec(type, new Passing<>(type));
    }

    @Override
    public void encodeToWire(Buffer buffer, T message) {
      if (message instanceof LoraLayerRequest) {
        throw new IllegalStateException("a layer request has left its process");
      }
      long number = NUMBERS.incrementAndGet();
      SENT.put(number, message);
      buffer.appendLong(number);
    }

    @Override
    public T decodeFromWire(int position, Buffer buffer) {
      return type.cast(SENT.get(buffer.getLong(position)));
    }

    @Override
    public T transform(T message) {
      return message;
    }

    @Override
    public String name() {
      return "passing:" + type.getName();
    }

    @Override
    public byte systemCodecID() {
      return -1;
    }
  }
}
