/** Watches the event loops of tests. */
package io.infinilora.loops;
