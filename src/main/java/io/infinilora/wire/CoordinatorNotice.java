package io.infinilora.wire;

/**
 * A coordinator of a LoRA Server serves: said when it begins and once a second from then on, so
 * that base models that come later, or missed something, ask for the listing.
 *
 * @param version of its {@link AdapterListing}
 */
public record CoordinatorNotice(long version) {}
