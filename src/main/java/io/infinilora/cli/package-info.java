/** The command line: wires everything, imported by nothing. */
package io.infinilora.cli;
