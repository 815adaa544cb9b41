// What a program does that is the first of a guest under test: file systems, command line, console, modules.

#ifndef GUEST_BOOT_H
#define GUEST_BOOT_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static char command_line[4096];

static char *word(const char *name) {
    char *found = strstr(command_line, name);
    return found ? found + strlen(name) : NULL;
}

// In hvm mode there is no console before its module is loaded.
static void open_console(void) {
    int console = open("/dev/console", O_RDWR);
    for (int i = 0; i < 3; i++) dup2(console, i);
}

static void mount_systems(void) {
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    open_console();
    int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    if (read(file, command_line, sizeof command_line - 1) < 0) command_line[0] = 0;
    close(file);
}

// ---------------------------------------------------------------- modules, as the agent loads them

static void load_module(const char *name) {
    char path[256], parameters[1024] = "", prefix[64];
    snprintf(path, sizeof path, "/modules/%s", name);
    snprintf(prefix, sizeof prefix, "%.*s.", (int)strcspn(name, "."), name);
    for (char *at = command_line; (at = strstr(at, prefix)); at++) {
        if (at != command_line && at[-1] != ' ') continue;
        char *value = at + strlen(prefix);
        size_t used = strlen(parameters);
        snprintf(parameters + used, sizeof parameters - used, "%.*s ", (int)strcspn(value, " \n"), value);
    }
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || syscall(SYS_finit_module, file, parameters, 0)) dprintf(1, "module %s: %s\n", name, strerror(errno));
    close(file);
}

static void load_modules(void) {
    FILE *list = fopen("/modules/list", "re");
    char name[200];
    while (list && fscanf(list, "%199s", name) == 1) load_module(name);
    if (list) fclose(list);
}

#endif
