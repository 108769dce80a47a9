package io.infinilora.weights.hub;

import java.net.http.HttpHeaders;

/**
 * An answer whose body is still to be read.
 *
 * @param status 2xx, 416, or a redirection that was not followed
 * @param headers of the last hop
 * @param body to be closed with this
 */
record HubResponse(int status, HttpHeaders headers, Body body) implements AutoCloseable {
  @Override
  public void close() {
    body.close();
  }
}
