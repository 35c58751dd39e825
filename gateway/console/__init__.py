"""The console's pages, as browsers get them: HTML, style sheets and ES modules. gateway/front/admin/console.py serves
them.

    index.html, overview.js   all models (`/`)
    model.html, model.js      one model (`/console/models/NAME`); live.js, control.js, export.js, signature.js,
                              configuration.js
    form.js, source.js        the form to try a model; board.js to draw on, answer.js, values.js (tensors as JSON text)
    snippets.js, tabs.js      the form's request as programs
    docs.html, docs.js        the API (`/docs`)
    graph.html, graph.js      a model's graph; graph_viewer.js starts Netron in its frame
    api.js                    requests to the server, with the key that the user has entered
    figures.js                rates and percentiles, from two readings of cumulative figures
    charts.js                 charts of a series over time
    vendor/                   libraries of others, unchanged, with their licenses; vendor.toml has their versions
    vendored.py               reads vendor.toml

Nothing is built or transpiled, and no page loads anything from another server.
"""
