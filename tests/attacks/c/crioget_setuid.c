/* SPDX-License-Identifier: MIT */
/*
 * A setuid program without a C library, linked to 0x50000000 (see crioget.h). It ends at once. What
 * stands where a caller of CRIOGET has its own code writes who it is to descriptor 9: "R" as root,
 * "u" as a user. Nothing here goes there: only who sets its registers.
 */
__asm__(".globl _start\n"
        "_start:\n"
        "    mov $231, %eax\n"  /* exit_group */
        "    xor %edi, %edi\n"
        "    syscall\n"
        "    .org 0x100\n"
        "    syscall\n"
        "    mov $107, %eax\n"  /* geteuid */
        "    syscall\n"
        "    lea root(%rip), %rsi\n"
        "    lea user(%rip), %rcx\n"
        "    test %eax, %eax\n"
        "    cmovnz %rcx, %rsi\n"
        "    mov $1, %eax\n"    /* write */
        "    mov $9, %edi\n"
        "    mov $1, %edx\n"
        "    syscall\n"
        "    mov $231, %eax\n"
        "    xor %edi, %edi\n"
        "    syscall\n"
        "root: .ascii \"R\"\n"
        "user: .ascii \"u\"\n");
