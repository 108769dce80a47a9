package io.infinilora.weights;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Map;

/**
 * The content hash of an adapter: SHA-256 over the length and text of its configuration, written
 * without spaces and with sorted keys, then over the bytes of its weights file. Formatting of the
 * configuration thus makes no difference, anything else does.
 */
final class AdapterDigest {

  private static final long CHUNK = 64L << 20;
  private static final ObjectMapper CANONICAL =
      new ObjectMapper().enable(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS);

  private AdapterDigest() {}

  /** The digest in lower-case hexadecimal. */
  static String of(ObjectNode config, MemorySegment weights) {
    try {
      MessageDigest sha = MessageDigest.getInstance("SHA-256");
      // Sorting applies to maps only, not to trees.
      Object map = CANONICAL.treeToValue(config, Map.class);
      byte[] text = CANONICAL.writeValueAsString(map).getBytes(StandardCharsets.UTF_8);
      sha.update(ByteBuffer.allocate(Long.BYTES).putLong(0, text.length));
      sha.update(text);
      for (long at = 0; at < weights.byteSize(); at += CHUNK) {
        long bytes = Math.min(CHUNK, weights.byteSize() - at);
        sha.update(weights.asSlice(at, bytes).asByteBuffer());
      }
      return HexFormat.of().formatHex(sha.digest());
    } catch (NoSuchAlgorithmException | JsonProcessingException e) {
      throw new IllegalStateException(e); // every JDK has SHA-256, and every tree can be written
    }
  }
}
