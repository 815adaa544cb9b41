import Foundation
import Functions
import Testing

struct DeployedFunctionTests {
    @Test func isReadBackAsItWasWritten() throws {
        let function = DeployedFunction(name: "f", image: "python3", memoryBytes: 128 << 20, timeoutSeconds: 3, revision: "r1")
        let bytes = try JSONEncoder().encode(function)
        #expect(try JSONDecoder().decode(DeployedFunction.self, from: bytes) == function)
    }
}
