import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@Suite struct FileSpaceTests {
    private func withFile(_ body: (Int32) throws -> Void) throws {
        let path = "/dev/shm/aurora-space-\(UUID().uuidString.prefix(8))"
        let file = open(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
        try #require(file >= 0)
        defer { close(file) }
        unlink(path)
        try body(file)
    }

    /// Without pieces a file in memory is given back and begun again at each signal.
    @Test func signalsDoNotKeepAFileFromItsSpace() throws {
        // Its own action is to be ignored, and ignored signals interrupt nothing.
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        var former = sigaction()
        sigaction(SIGURG, &action, &former)
        defer { sigaction(SIGURG, &former, nil) }
        try withFile { file in
            let allocator = pthread_self()
            let isDone = Atomic(false)
            let isOver = DispatchSemaphore(value: 0)
            Thread.detachNewThread {
                while !isDone.load(ordering: .acquiring) {
                    pthread_kill(allocator, SIGURG)
                    usleep(500)
                }
                isOver.signal()
            }
            var results: Set<Int> = []
            for _ in 0..<5 {
                results.insert(ftruncate(file, 0) == 0 ? FileSpace.allocate(file, at: 0, count: 32 << 20) : -1)
            }
            isDone.store(true, ordering: .releasing)
            isOver.wait()
            #expect(results == [0])
            var status = stat()
            #expect(fstat(file, &status) == 0 && status.st_blocks >= 32 << 11)
        }
    }

    @Test func refusalsAreToldAndOtherModesMakeHoles() throws {
        try withFile { file in
            #expect(FileSpace.allocate(file, at: 0, count: 0) == -Int(EINVAL))
            #expect(FileSpace.allocate(-1, at: 0, count: 4096) == -Int(EBADF))
            #expect(FileSpace.allocate(file, at: 4096, count: 3 << 20) == 0)
            #expect(FileSpace.allocate(file, mode: CLINUX_PUNCH_HOLE, at: 0, count: 4 << 20) == 0)
            var status = stat()
            #expect(fstat(file, &status) == 0 && status.st_blocks == 0 && status.st_size == (3 << 20) + 4096)
        }
    }
}
