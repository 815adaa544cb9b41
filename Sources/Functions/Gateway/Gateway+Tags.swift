internal import NIOHTTP1

extension Gateway {
    /// `ListTags`, `TagResource`, `UntagResource`: a function is named by its resource name.
    func tags(_ text: String, _ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        struct Body: Codable {
            var tags: [String: String]
            enum CodingKeys: String, CodingKey { case tags = "Tags" }
        }
        let record = try record(text, request)
        let wanted: [String: String]
        switch request.method {
        case .GET: return GatewayResponse(status: 200, body: JSONBody.encode(Body(tags: record.settings.tags ?? [:])))
        case .POST:
            let added = try JSONBody.decode(Body.self, request.body).tags
            wanted = (record.settings.tags ?? [:]).merging(added) { $1 }
        default:
            let names = Set(request.parameters.filter { $0.name == "tagKeys" }.map(\.value))
            guard !names.isEmpty else { throw .invalid("tagKeys is missing") }
            wanted = (record.settings.tags ?? [:]).filter { !names.contains($0.key) }
        }
        do throws(CatalogueError) { try SettingsCheck.check(tags: wanted) } catch { throw LambdaError(error) }
        try await change { () throws(CatalogueError) in
            try self.catalogue.note(record.name, revision: record.revision) { $0.settings.tags = wanted.isEmpty ? nil : wanted }
        }
        return GatewayResponse(status: 204)
    }
}
