/** Event-bus messages, their codecs and addresses: all that joins base models and LoRA servers. */
package io.infinilora.wire;
