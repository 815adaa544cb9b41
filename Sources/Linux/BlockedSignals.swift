internal import CLinux

/// Keeps signals from the calling thread for a while.
public enum BlockedSignals {
    /// Runs a closure without any signal; those that come meanwhile are delivered afterwards.
    public static func during<Result>(_ body: () -> Result) -> Result {
        var all = sigset_t()
        var former = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &former)
        defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
        return body()
    }
}
