package io.infinilora.wire;

import io.infinilora.core.AdapterStatus;

/**
 * One change of the adapters that a LoRA Server has.
 *
 * @param version its number, ascending by one
 * @param name the adapter
 * @param adapter what requests for it use from now on; null if they are to be refused
 */
public record AdapterChange(long version, String name, AdapterStatus adapter) {}
