/**
 * From a configuration in YAML to a trainer, for the command line and for programs: {@link org.teamtr.config.ConfigFile} reads and
 * checks it, {@link org.teamtr.config.Setup} loads what it names.
 */
package org.teamtr.config;
