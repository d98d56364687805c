// SPDX-License-Identifier: Apache-2.0
// Measures whole processes. It starts once inside a node's namespaces, runs one command after the other, and prints how
// long each took from just before posix_spawn to just after it was reaped.
//
//   spawn < JOBS
//
// A job is a group of lines. The first word of a line is its keyword:
//   job LABEL        begins a job
//   arg TEXT         a word of the command, in order; the first is a path
//   env NAME=VALUE   one entry of the environment; nothing is inherited
//   text TEXT        standard input of the command: this text
//   stdin PATH       … and the content of this file at that time; all `text` and `stdin` are joined in order
//   stdout PATH      file for the command's output, written after the command ends (default: nowhere)
//   gone INTERFACE   after the measured time, waits until this interface does not exist, 5 s at most
//   run              runs the job
//   later            keeps the job for the next burst
//   burst LABEL      starts all kept jobs, one right after the other, and waits for all
//
// Prints one line to stdout for each job: LABEL, wall ns, user + system µs, minor page faults, context switches. For a
// burst as a whole it prints LABEL, wall ns from the first start to the last end, and zeros. If a command does not exit
// with status 0, the program prints the command's output and exits with status 1.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORDS = 64, MAX_BURST = 256, MAX_OUTPUT = 1 << 20, GONE_MILLISECONDS = 5000 };

struct job {
  char *label, *stdout_path, *gone;
  char *arguments[MAX_WORDS + 1], *environment[MAX_WORDS + 1];
  int argument_count, environment_count;
  int input, output;
  pid_t child;
  long long began;
};

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void fail(const char *format, ...) {
  va_list arguments;
  fflush(stdout);
  fputs("spawn: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static char *copy(const char *text) {
  char *copied = strdup(text);
  if (!copied) fail("out of memory");
  return copied;
}

static int memory_file(void) {
  int file = memfd_create("spawn", MFD_CLOEXEC);
  if (file < 0) fail("memfd: %s", strerror(errno));
  return file;
}

static void append(int from, int to, const char *name) {
  char buffer[65536];
  ssize_t length;
  while ((length = read(from, buffer, sizeof buffer)) > 0)
    if (write(to, buffer, length) != length) fail("%s: %s", name, strerror(errno));
  if (length < 0) fail("%s: %s", name, strerror(errno));
}

static void append_file(int to, const char *path) {
  int from = open(path, O_RDONLY | O_CLOEXEC);
  if (from < 0) fail("%s: %s", path, strerror(errno));
  append(from, to, path);
  close(from);
}

static void rewind_to_start(int file) {
  if (lseek(file, 0, SEEK_SET) != 0) fail("seek: %s", strerror(errno));
}

static void keep_output(int output, const char *path) {
  int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (to < 0) fail("%s: %s", path, strerror(errno));
  rewind_to_start(output);
  append(output, to, path);
  close(to);
}

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void wait_until_gone(const char *interface) {
  long long until = now() + GONE_MILLISECONDS * 1000000LL;
  while (if_nametoindex(interface) != 0) {
    if (now() > until) fail("%s is still there after %d ms", interface, GONE_MILLISECONDS);
    poll(NULL, 0, 1);  // between two looks at the condition
  }
}

static void report_failure(const struct job *job, int status, int output) {
  static char said[MAX_OUTPUT];
  rewind_to_start(output);
  ssize_t length = read(output, said, sizeof said - 1);
  said[length > 0 ? length : 0] = 0;
  if (WIFSIGNALED(status)) fail("%s: %s: signal %d: %s", job->label, job->arguments[0], WTERMSIG(status), said);
  fail("%s: %s: status %d: %s", job->label, job->arguments[0], WEXITSTATUS(status), said);
}

static void prepare(struct job *job) {
  if (!job->label || job->argument_count == 0) fail("a job without label or command");
  job->output = memory_file();
  rewind_to_start(job->input);
}

static void start(struct job *job) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, job->input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, job->output, STDOUT_FILENO);
  job->began = now();
  int error = posix_spawn(&job->child, job->arguments[0], &actions, NULL, job->arguments, job->environment);
  if (error) fail("%s: %s: %s", job->label, job->arguments[0], strerror(error));
  posix_spawn_file_actions_destroy(&actions);
}

// Waits for a child (-1: any child) and returns its process id.
static pid_t collect(pid_t child, int *status, struct rusage *usage) {
  pid_t ended;
  while ((ended = wait4(child, status, 0, usage)) < 0)
    if (errno != EINTR) fail("wait: %s", strerror(errno));
  return ended;
}

static void report(const struct job *job, long long took, int status, const struct rusage *usage) {
  if (status != 0) report_failure(job, status, job->output);
  if (job->stdout_path) keep_output(job->output, job->stdout_path);
  long long cpu = (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000LL + usage->ru_utime.tv_usec +
                  usage->ru_stime.tv_usec;
  printf("%s %lld %lld %ld %ld\n", job->label, took, cpu, usage->ru_minflt, usage->ru_nvcsw + usage->ru_nivcsw);
}

static void run(struct job *job) {
  int status;
  struct rusage usage;
  prepare(job);
  start(job);
  collect(job->child, &status, &usage);
  report(job, now() - job->began, status, &usage);
  if (job->gone) wait_until_gone(job->gone);
}

static void run_burst(const char *label, struct job *jobs, int count) {
  static struct {
    long long ended;
    int status;
    struct rusage usage;
  } ends[MAX_BURST];
  long long last = 0;
  if (count == 0) fail("burst %s: nothing was kept for it", label);
  for (int at = 0; at < count; at++) prepare(&jobs[at]);
  for (int at = 0; at < count; at++) start(&jobs[at]);
  for (int left = count; left > 0; left--) {
    int status, at = 0;
    struct rusage usage;
    pid_t ended = collect(-1, &status, &usage);
    last = now();
    while (at < count && jobs[at].child != ended) at++;
    if (at == count) fail("burst %s: process %d is none of it", label, (int)ended);
    ends[at].ended = last;
    ends[at].status = status;
    ends[at].usage = usage;
  }
  for (int at = 0; at < count; at++) report(&jobs[at], ends[at].ended - jobs[at].began, ends[at].status, &ends[at].usage);
  printf("%s %lld 0 0 0\n", label, last - jobs[0].began);
  for (int at = 0; at < count; at++)
    if (jobs[at].gone) wait_until_gone(jobs[at].gone);
}

static void clear(struct job *job) {
  for (int at = 0; at < job->argument_count; at++) free(job->arguments[at]);
  for (int at = 0; at < job->environment_count; at++) free(job->environment[at]);
  free(job->label);
  free(job->stdout_path);
  free(job->gone);
  if (job->input > 0) close(job->input);
  if (job->output > 0) close(job->output);
  memset(job, 0, sizeof *job);
}

static void add_word(char **words, int *count, const char *text) {
  if (*count >= MAX_WORDS) fail("more than %d words", MAX_WORDS);
  words[(*count)++] = copy(text);
}

int main(void) {
  static struct job kept[MAX_BURST];
  int kept_count = 0;
  struct job job = {0};
  char *line = NULL;
  size_t capacity = 0;
  ssize_t length;
  while ((length = getline(&line, &capacity, stdin)) > 0) {
    if (line[length - 1] == '\n') line[length - 1] = 0;
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = 0;
    else rest = line + strlen(line);
    if (strcmp(line, "job") == 0) {
      clear(&job);
      job.label = copy(rest);
      job.input = memory_file();
    } else if (strcmp(line, "burst") == 0) {
      run_burst(rest, kept, kept_count);
      while (kept_count > 0) clear(&kept[--kept_count]);
    } else if (!job.label) {
      fail("%s comes before any job", line);
    } else if (strcmp(line, "arg") == 0) {
      add_word(job.arguments, &job.argument_count, rest);
    } else if (strcmp(line, "env") == 0) {
      add_word(job.environment, &job.environment_count, rest);
    } else if (strcmp(line, "text") == 0) {
      if (write(job.input, rest, strlen(rest)) < 0) fail("input: %s", strerror(errno));
    } else if (strcmp(line, "stdin") == 0) {
      append_file(job.input, rest);
    } else if (strcmp(line, "stdout") == 0) {
      job.stdout_path = copy(rest);
    } else if (strcmp(line, "gone") == 0) {
      job.gone = copy(rest);
    } else if (strcmp(line, "run") == 0) {
      run(&job);
    } else if (strcmp(line, "later") == 0) {
      if (kept_count == MAX_BURST) fail("more than %d jobs in a burst", MAX_BURST);
      kept[kept_count++] = job;
      memset(&job, 0, sizeof job);
    } else {
      fail("unknown word %s", line);
    }
  }
  clear(&job);
  free(line);
  return fflush(stdout) == 0 ? 0 : 1;
}
