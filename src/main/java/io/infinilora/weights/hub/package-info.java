/**
 * The Hugging Face hub: finds, downloads and checks the files of models and adapters, in a cache
 * that is shared with Hugging Face's own tools.
 */
package io.infinilora.weights.hub;
