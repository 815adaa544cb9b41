#ifndef GUEST_BLOBS_H
#define GUEST_BLOBS_H
// The programs that run inside a guest, embedded in the host program by blobs.S.
// Swift sees an array of unknown size poorly, so each blob is a pair of one-byte symbols.
extern const unsigned char aurora_pvshim_start[1];
extern const unsigned char aurora_pvshim_end[1];
extern const unsigned char aurora_agent_start[1];
extern const unsigned char aurora_agent_end[1];
static inline const unsigned char *aurora_pvshim_bytes(void) { return aurora_pvshim_start; }
static inline unsigned long aurora_pvshim_count(void) { return (unsigned long)(aurora_pvshim_end - aurora_pvshim_start); }
static inline const unsigned char *aurora_agent_bytes(void) { return aurora_agent_start; }
static inline unsigned long aurora_agent_count(void) { return (unsigned long)(aurora_agent_end - aurora_agent_start); }
#endif
