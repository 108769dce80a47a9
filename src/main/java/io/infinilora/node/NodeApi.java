package io.infinilora.node;

import io.infinilora.core.AdapterRegistry;
import io.infinilora.core.Engine;
import io.infinilora.core.TextAssets;

/**
 * What an API serves.
 *
 * @param engine generates
 * @param adapters changes the adapters
 * @param text tokenizer and chat template
 */
public record NodeApi(Engine engine, AdapterRegistry adapters, TextAssets text) {}
