/** Membership: how the processes of a cluster find each other and notice that one is gone. */
package io.infinilora.cluster;
