/** Settings: immutable records with their defaults, and the loader that fills them. */
package io.infinilora.config;
