/** Tasks and verifiers: the built-in budget relay, prompts of files, and the verifiers that score episodes. */
package org.teamtr.task;
