/* How a program of the bench ends early: SIGINT or SIGTERM asks for it, and the program looks. */
#ifndef BENCH_STOP_H
#define BENCH_STOP_H

#include <signal.h>

/* Not 0: asked to stop. */
extern volatile sig_atomic_t stop_asked;

/* To be asked by SIGINT and SIGTERM from now on. A peer that closes is an error, not a signal. */
void stop_on_signals(void);

#endif
