import Glibc
import Store

/// Writes to a store, or collects it, until somebody kills it: the other half of the test that kills processes.
///
/// `store-exercise write DISK RUNTIME STREAM LOG` commits checkpoints and notes in LOG (8 bytes each) what was acknowledged;
/// `store-exercise collect DISK RUNTIME` collects without end.
@main enum StoreExercise {
    static func main() {
        let arguments = CommandLine.arguments
        do {
            switch (arguments.count, arguments.count > 1 ? arguments[1] : "") {
            case (6, "write"):
                try ExerciseWriter(disk: arguments[2], runtime: arguments[3], stream: arguments[4], log: arguments[5]).run()
            case (4, "collect"): try collect(disk: arguments[2], runtime: arguments[3])
            default: exit(64)
            }
        } catch {
            let text = Array("store-exercise: \(error)\n".utf8)
            _ = write(2, text, text.count)
            exit(1)
        }
    }

    private static func collect(disk: String, runtime: String) throws {
        let store = try Store.open(try FileDisk.open(disk), memory: .directory(runtime), indexBytes: 1 << 20)
        while true {
            do throws(StoreError) { try store.collect() } catch {
                guard case .busy = error else { throw error }
                usleep(1000)
            }
        }
    }
}
