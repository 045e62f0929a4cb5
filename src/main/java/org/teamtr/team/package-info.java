/**
 * Teams: agents that write in turn into one shared context, who speaks next, what each sees, and what was said.
 *
 * <p>Start at {@link org.teamtr.team.Team}; {@link org.teamtr.team.Rollout} plays it.
 */
package org.teamtr.team;
