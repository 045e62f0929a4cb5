/**
 * Teams: agents that write in turn into one shared context, the order in which they write, what each sees, and their messages.
 *
 * <p>Start at {@link org.teamtr.team.Team}; {@link org.teamtr.team.Rollout} plays it.
 */
package org.teamtr.team;
