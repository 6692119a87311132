-- Some products only: ranking all pairs of all products takes longer than counting them.
with

products as (

    select
        product_id,
        product_number,
        basket_count,
        is_in_catalogue
    from {{ ref('int_products_keyed') }}

),

sampled_products as (

    select
        product_id,
        product_number
    from products
    -- Other products in each run.
    order by
        hash(
            product_id
            || (select mounted_run.run from {{ source('lake', 'mounted_run') }} as mounted_run)
        ),
        product_id
    limit 10

),

directed as (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

expected as (

    select
        sampled_products.product_id,
        other_product.product_id as recommended_product_id,
        directed.copurchase_count,
        row_number() over (
            partition by sampled_products.product_id
            order by
                directed.copurchase_count desc,
                other_product.basket_count desc,
                other_product.product_id asc
        ) as recommendation_rank
    from directed
    inner join sampled_products
        on directed.product_number = sampled_products.product_number
    inner join products as other_product
        on directed.other_product_number = other_product.product_number
    where other_product.is_in_catalogue
    qualify recommendation_rank <= {{ var('recommendations_per_product') }}

),

found as (

    select
        recommendations.product_id,
        recommendations.recommended_product_id,
        recommendations.copurchase_count,
        recommendations.recommendation_rank
    from {{ ref('product_recommendations') }} as recommendations
    semi join sampled_products
        on recommendations.product_id = sampled_products.product_id

)

{{ rows_that_differ('expected', 'found') }}
