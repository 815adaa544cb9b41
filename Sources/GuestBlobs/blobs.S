	.section .rodata.aurora_blobs, "a"
	.balign 4096
	.globl aurora_pvshim_start, aurora_pvshim_end, aurora_agent_start, aurora_agent_end
aurora_pvshim_start:
	.incbin "generated/pvshim.bin"
aurora_pvshim_end:
	.balign 4096
aurora_agent_start:
	.incbin "generated/agent"
aurora_agent_end:
	.byte 0
	.section .note.GNU-stack, "", @progbits
