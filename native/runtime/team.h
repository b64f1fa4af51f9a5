// The threads that compute beside the calling one: its OpenMP team.
#pragma once

namespace lta {

// Wakes the team of the calling thread, which sleeps after a pause, and sees to it that it isn't on the caller's core.
// A thread is woken where it slept if the other cores are busy for the moment, as the event loop's is that has just
// begun the run; where that is the caller's core, the two take turns waiting for each other there, for milliseconds,
// while others are idle: a run of 8 ms on two cores took 15 to 19. `threads`: of the team, the caller included.
void wakeTeam(int threads);

// Moves the calling thread to another core, if there is one that it may use. What it may use stays as it is.
void moveToAnotherCore();

}  // namespace lta
