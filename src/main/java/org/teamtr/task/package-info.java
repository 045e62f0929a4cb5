/** What teams are trained on: the built-in budget relay, prompts of files, and verifiers. */
package org.teamtr.task;
