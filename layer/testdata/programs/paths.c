// Every call that takes a path, with the raw number, in every spelling of one overlaid file: paths PATH. Run it in PATH's folder.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *result(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

static void first_line(const char *what, long fd)
{
	char buf[64];
	if (fd < 0) {
		printf("%s: %s\n", what, strerrorname_np(errno));
		return;
	}
	ssize_t n = read(fd, buf, sizeof buf);
	char *end = memchr(buf, '\n', n < 0 ? 0 : n);
	printf("%s: %.*s\n", what, end ? (int)(end - buf) : 0, buf);
	close(fd);
}

int main(int argc, char **argv)
{
	const char *path = argv[1];
	char dir_copy[256], base_copy[256], spelt[600];
	const char *dir = dirname(strcpy(dir_copy, path)), *base = basename(strcpy(base_copy, path));
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	struct stat st, st2;
	struct statx sx;
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC};

	if (geteuid() == 0)
		return 2; // it tries to truncate the file, which root may
	setvbuf(stdout, NULL, _IOLBF, 0);
#ifdef SYS_open
	first_line("open", syscall(SYS_open, path, O_RDONLY));
#else
	first_line("open", syscall(SYS_openat, AT_FDCWD, path, O_RDONLY));
#endif
	first_line("openat", syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
	first_line("openat with a folder", syscall(SYS_openat, dirfd, base, O_RDONLY));
	first_line("openat of an absolute path ignores the folder", syscall(SYS_openat, -1, path, O_RDONLY));
	first_line("openat2", syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
	how.resolve = RESOLVE_BENEATH;
	first_line("openat2 beneath a folder", syscall(SYS_openat2, dirfd, base, &how, sizeof how));
	sprintf(spelt, "/%s//./%s", dir, base);
	first_line("with // and .", syscall(SYS_openat, AT_FDCWD, spelt, O_RDONLY));
	sprintf(spelt, "%s/../%s/%s", dir, strrchr(dir, '/') + 1, base);
	first_line("with ..", syscall(SYS_openat, AT_FDCWD, spelt, O_RDONLY));
	if (chdir(dir))
		return 1;
	first_line("relative to the working folder", syscall(SYS_openat, AT_FDCWD, base, O_RDONLY));
	sprintf(spelt, "./%s", base);
	first_line("relative with ./", syscall(SYS_openat, AT_FDCWD, spelt, O_RDONLY));
	chdir("/");
	first_line("relative to /", syscall(SYS_openat, AT_FDCWD, path + 1, O_RDONLY));

	int fd = open(path, O_RDONLY);
	fstat(fd, &st);
	char *m = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	printf("mmap: %.10s\n", m == MAP_FAILED ? "failed" : m);
	printf("close-on-exec: %s", fcntl(fd, F_GETFD) & FD_CLOEXEC ? "set" : "not set");
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	printf(", %s\n", fcntl(fd, F_GETFD) & FD_CLOEXEC ? "set" : "not set");
	close(fd);
#ifdef SYS_stat
	printf("stat: %s, ", result(syscall(SYS_stat, path, &st2)));
	printf("%s\n", st2.st_size == st.st_size && st2.st_ino == st.st_ino ? "the same file" : "another file");
	printf("lstat: %s, ", result(syscall(SYS_lstat, path, &st2)));
	printf("%s\n", S_ISREG(st2.st_mode) && st2.st_ino == st.st_ino ? "the same file" : "another file");
	printf("access: %s\n", result(syscall(SYS_access, path, R_OK)));
	printf("access to write: %s\n", result(syscall(SYS_access, path, W_OK)));
	printf("readlink: %s\n", result(syscall(SYS_readlink, path, spelt, sizeof spelt)));
#endif
	printf("newfstatat: %s, ", result(syscall(SYS_newfstatat, AT_FDCWD, path, &st2, 0)));
	printf("%s\n", st2.st_ino == st.st_ino ? "the same file" : "another file");
	printf("newfstatat with a folder: %s, ", result(syscall(SYS_newfstatat, dirfd, base, &st2, AT_SYMLINK_NOFOLLOW)));
	printf("%s\n", st2.st_ino == st.st_ino ? "the same file" : "another file");
	printf("statx: %s, ", result(syscall(SYS_statx, dirfd, base, 0, STATX_BASIC_STATS, &sx)));
	printf("%s\n", sx.stx_ino == st.st_ino && sx.stx_size == st.st_size ? "the same file" : "another file");
	printf("faccessat: %s\n", result(syscall(SYS_faccessat, dirfd, base, R_OK)));
	printf("faccessat2: %s\n", result(syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, AT_EACCESS)));
	printf("readlinkat: %s\n", result(syscall(SYS_readlinkat, AT_FDCWD, path, spelt, sizeof spelt)));
	printf("a bad buffer: %s\n", result(syscall(SYS_newfstatat, AT_FDCWD, path, (void *)8, 0)));

	printf("open to write: %s\n", result(syscall(SYS_openat, AT_FDCWD, path, O_WRONLY)));
	printf("open to truncate: %s\n", result(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_TRUNC)));
	printf("open to create anew: %s\n", result(syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600)));
	printf("open as a folder: %s\n", result(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY)));
#ifdef SYS_creat
	printf("creat: %s\n", result(syscall(SYS_creat, path, 0600)));
#endif
	first_line("and after all that", syscall(SYS_openat, AT_FDCWD, path, O_RDONLY));
	printf("a neighbour: %s\n", result(syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &st2, 0)));
	printf("nothing there: %s\n", result(syscall(SYS_openat, AT_FDCWD, "/etc/no-such-file", O_RDONLY)));
	return argc != 2;
}
