with

source as (

    select * from {{ source('published', 'published_recommendations') }}

),

renamed as (

    select
        product_id,
        recommended_product_id,
        recommendation_rank,
        copurchase_count
    from source

)

select * from renamed
